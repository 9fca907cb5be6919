"""Reads the text of a conda file as pip requirements: pure, no I/O.

Environments are built with pip's packages, so each conda package is looked up under its name on
PyPI. What is only there because conda installs more than Python packages is left out and said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

DEPENDENCIES_MAX = 1_000

# conda name -> PyPI name, where they differ
PYPI_NAMES = {
    "pytorch": "torch",
    "pytorch-cpu": "torch",
    "pytorch-gpu": "torch",
    "pytorch-lightning": "lightning",
    "tensorflow-gpu": "tensorflow",
    "py-xgboost": "xgboost",
    "py-xgboost-cpu": "xgboost",
    "py-xgboost-gpu": "xgboost",
    "py-opencv": "opencv-python-headless",
    "opencv": "opencv-python-headless",
    "libopencv": "opencv-python-headless",
    "msgpack-python": "msgpack",
    "matplotlib-base": "matplotlib",
    "pytables": "tables",
    "faiss": "faiss-cpu",
    "dask-core": "dask",
    "seaborn-base": "seaborn",
    "ruamel_yaml": "ruamel.yaml",
    "pyarrow-core": "pyarrow",
}
# Packages that come with the interpreter, with wheels, or with the machine.
_SYSTEM_PACKAGES = """
pip conda mamba _libgcc_mutex _openmp_mutex blas nomkl mkl libblas libcblas liblapack openblas
libopenblas intel-openmp libgomp libgcc libgcc-ng libstdcxx-ng libgfortran libgfortran-ng
libgfortran5 gcc gxx gcc_linux-64 gxx_linux-64 compilers c-compiler cxx-compiler openssl
ca-certificates zlib xz bzip2 tk readline sqlite ncurses libffi ld_impl_linux-64 cudatoolkit
cudatoolkit-dev cudnn cuda cuda-toolkit cuda-runtime cuda-version nccl pytorch-cuda pytorch-mutex
cpuonly libjpeg-turbo libpng libtiff jpeg freetype ffmpeg
"""
NOT_FROM_PYPI = frozenset(_SYSTEM_PACKAGES.split())
_PIP_OPTIONS = ("--extra-index-url", "--index-url", "-i", "--find-links", "-f", "--pre")
_NAME = re.compile(r"(?:[\w./-]+::?)?([A-Za-z0-9_][A-Za-z0-9_.-]*)\s*(.*)", re.DOTALL)
_CLAUSE = re.compile(r"(==|>=|<=|!=|~=|=|>|<)?\s*([A-Za-z0-9.*+!_-]+)")


@dataclass(frozen=True, slots=True)
class Recipe:
    """``python``: the asked version, or empty. ``lines``: a requirements file. ``notes``: what
    the reader of the build log should know."""

    python: str
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


def parse(text: str) -> Recipe:
    """The recipe in a conda file. Raises HeadgateError(ImageBuildFailure) naming what is wrong."""
    python, lines, notes = "", list[str](), list[str]()
    for dependency in _dependencies(text):
        if isinstance(dependency, dict):
            lines += _pip_lines(dependency)
            continue
        name, version = _split(dependency)
        if name == "python":
            python = _python(version, dependency)
        elif name in NOT_FROM_PYPI:
            notes.append(f"conda package {dependency!r} is left out: Python wheels do not need it")
        else:
            pypi = PYPI_NAMES.get(name, name)
            lines.append(pypi + _specifier(version, dependency))
            if pypi != name:
                notes.append(f"conda package {name!r} is called {pypi!r} on PyPI")
    return Recipe(python, tuple(lines), tuple(notes))


def nearest(asked: str, available: list[str], *, oldest: str = "3.9") -> str:
    """The available version (``3.11.7``) closest to the asked one; newer rather than older.

    ``asked`` may name one to three parts. Versions below ``oldest`` are never chosen.
    """
    wanted = _numbers(asked)
    usable = [v for v in available if _numbers(v)[:2] >= _numbers(oldest)[:2]]
    if not usable:
        return ""

    def distance(version: str) -> tuple[int, int, int]:
        minor = _numbers(version)[1] - (wanted[1] if len(wanted) > 1 else 0)
        patch = _numbers(version)[2] - (wanted[2] if len(wanted) > 2 else 0)
        return (abs(minor), 0 if minor >= 0 else 1, abs(patch))

    return min(usable, key=distance)


def _dependencies(text: str) -> list[Any]:
    if len(text.encode()) > limits.YAML_BYTES_MAX:
        raise _refusal("", f"the conda file is larger than {limits.YAML_BYTES_MAX} bytes")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _refusal("", f"the conda file is not valid YAML: {error}") from None
    dependencies = document.get("dependencies") if isinstance(document, dict) else None
    if dependencies is None:
        raise _refusal("", "the conda file has no list `dependencies`")
    if not isinstance(dependencies, list) or len(dependencies) > DEPENDENCIES_MAX:
        raise _refusal("", f"`dependencies` must be a list of at most {DEPENDENCIES_MAX} entries")
    for entry in dependencies:
        if not isinstance(entry, str | dict):
            raise _refusal(str(entry)[:80], "an entry must be a package or `pip:` with a list")
    return dependencies


def _split(dependency: str) -> tuple[str, str]:
    """``conda-forge::numpy=1.21.*=py38`` -> name and version, without channel and build."""
    if "[" in dependency:
        raise _refusal(dependency, "conditions in brackets are not understood; write name=version")
    match = _NAME.fullmatch(dependency.strip())
    if match is None:
        raise _refusal(dependency, "this is not a package name")
    return match[1].lower(), match[2].strip()


def _specifier(version: str, dependency: str) -> str:
    """A conda version as a PEP 440 specifier: ``=1.21`` means any 1.21, ``1.21.2`` exactly it."""
    if not version or version == "*":
        return ""
    if "|" in version:
        raise _refusal(dependency, "alternatives (`|`) are not understood; choose one version")
    if not any(mark in version for mark in "<>!~,"):
        version = _without_build(version)
    clauses = []
    for part in version.split(","):
        match = _CLAUSE.fullmatch(part.strip())
        if match is None:
            raise _refusal(dependency, f"{part.strip()!r} is not a version")
        operator, number = match[1] or "==", match[2]
        if operator == "=":
            operator, number = "==", f"{number.removesuffix('*').rstrip('.')}.*"
        if number == ".*":
            continue
        clauses.append(operator + number)
    return ",".join(clauses)


def _without_build(version: str) -> str:
    """``=1.21.2=py38_0`` and ``1.21.2 py38_0`` -> ``==1.21.2``: with a build it is exact."""
    found = re.fullmatch(r"(==|=)?\s*([^=\s]+)(?:\s*=\s*|\s+)(\S+)", version)
    return f"=={found[2]}" if found else version


def _python(version: str, dependency: str) -> str:
    found = re.search(r"(\d+)(\.\d+){0,2}", version)
    if version and found is None:
        raise _refusal(dependency, "this is not a Python version")
    return found[0] if found else ""


def _pip_lines(entry: dict[Any, Any]) -> list[str]:
    if list(entry) != ["pip"] or not isinstance(entry["pip"], list | type(None)):
        raise _refusal(str(next(iter(entry), "")), "only `pip:` may hold a list of its own")
    lines = []
    for item in entry["pip"] or ():
        line = str(item).strip()
        if not line or line.startswith("#"):
            continue
        if "\n" in line:
            raise _refusal(line, "one line per pip requirement, please")
        word = re.split(r"[\s=]", line, maxsplit=1)[0]
        if word.startswith("-") and word not in _PIP_OPTIONS:
            raise _refusal(
                line,
                "only the text of the conda file belongs to the environment, so other files and "
                f"options cannot be used; allowed are requirements and {', '.join(_PIP_OPTIONS)}",
            )
        if line.startswith((".", "/", "file:")) or "@ file:" in line or "@file:" in line:
            raise _refusal(line, "a path on the author's machine does not exist here")
        lines.append(line)
    return lines


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _refusal(dependency: str, why: str) -> HeadgateError:
    what = f"{dependency!r}: {why}" if dependency else why
    return HeadgateError(
        ErrorCode.IMAGE_BUILD_FAILURE, f"environment: {what}", target="environment.conda_file"
    )
