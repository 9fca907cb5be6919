"""The folder of an MLflow model, as a deployment without script and environment needs it.

MLflow notes beside a model which packages it was made with. Here this becomes the text of a conda
file, which is built and cached as any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

MLMODEL = "MLmodel"
REQUIREMENTS = "requirements.txt"
FOLDERS_DOWN_MAX = 2  # below AZUREML_MODEL_DIR: the registered folder, and one inside of it
NAMED_MAX = 20
# Before this version MLflow needs a module of setuptools, which conda's environments always had.
PKG_RESOURCES_UNTIL = (2, 16)

# A file of the model by its relative path, or None when the model has none of that name.
Read = Callable[[str], str | None]

_PACKAGE = re.compile(r"(?:[\w./-]+::?)?\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[\s=]*(\S+)")


@dataclass(frozen=True, slots=True)
class Needs:
    """The environment of a model. ``notes``: what its owner should know about it."""

    conda_file: str
    notes: tuple[str, ...]


def find(directory: Path) -> Path:
    """The folder with the file MLmodel, in or below what AZUREML_MODEL_DIR is.

    Raises HeadgateError(BadArgument) when there is none, or more than one.
    """
    level = [directory]
    for _ in range(FOLDERS_DOWN_MAX + 1):
        found = [folder for folder in level if (folder / MLMODEL).is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            places = ", ".join(folder.relative_to(directory).as_posix() for folder in found)
            raise _refusal(f"its folder holds several models ({places}); register one of them")
        level = [inner for folder in level for inner in sorted(folder.iterdir()) if inner.is_dir()]
    there = sorted(
        path.relative_to(directory).as_posix() for path in directory.glob("*/*") if path.is_file()
    )
    raise _refusal(
        "its folder holds no file MLmodel, neither directly nor one folder down; register the "
        f"folder that mlflow's save_model() or log_model() wrote. Found: "
        f"{', '.join(there[:NAMED_MAX]) or 'no file'}"
    )


def reader(folder: Path) -> Read:
    """Reads files of this folder and of none outside; too large ones are refused."""

    def read(name: str) -> str | None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not (folder / path).is_file():
            return None
        with (folder / path).open("rb") as file:
            data = file.read(limits.YAML_BYTES_MAX + 1)
        if len(data) > limits.YAML_BYTES_MAX:
            raise _refusal(f"its file {name} is larger than {limits.YAML_BYTES_MAX} bytes")
        return data.decode(errors="replace")

    return read


def needs(read: Read) -> Needs:
    """What the model says about its environment, and what else is needed to load it.

    Raises HeadgateError(BadArgument) when the model cannot be served by itself.
    """
    model = _mapping(read(MLMODEL) or "", MLMODEL)
    flavors = model.get("flavors")
    flavor = flavors.get("python_function") if isinstance(flavors, dict) else None
    if not isinstance(flavor, dict):
        has = ", ".join(map(str, flavors)) if isinstance(flavors, dict) else "none"
        raise _refusal(
            f"it has no python_function flavor (but {has}), and only that can be served without "
            "a scoring script; add code_configuration"
        )
    notes: list[str] = []
    python, packages, pip = _named(read, flavor, notes)
    python = python or str(flavor.get("python_version") or "")
    pip += _to_load(
        {_name(line) for line in (*packages, *pip)}, str(model.get("mlflow_version") or "")
    )
    dependencies = [*([f"python={python}"] if python else []), *packages, {"pip": pip}]
    return Needs(
        yaml.safe_dump({"dependencies": dependencies}, sort_keys=False, allow_unicode=True),
        tuple(notes),
    )


def _named(
    read: Read, flavor: dict[str, Any], notes: list[str]
) -> tuple[str, list[str], list[str]]:
    """Python's version, conda packages and pip requirements, from the first file that is there."""
    env = flavor.get("env")
    names = env if isinstance(env, dict) else {"conda": env}
    conda = str(names.get("conda") or "conda.yaml")
    virtualenv = str(names.get("virtualenv") or "python_env.yaml")
    if (text := read(conda)) is not None:
        notes.append(f"environment: as the model's {conda} says")
        return _of_conda(_listed(text, conda), read, notes)
    if (text := read(virtualenv)) is not None:
        notes.append(f"environment: as the model's {virtualenv} says")
        python = str(_mapping(text, virtualenv).get("python") or "")
        return python, [], list(_lines(map(str, _listed(text, virtualenv)), read, notes))
    if (text := read(REQUIREMENTS)) is not None:
        notes.append(f"environment: as the model's {REQUIREMENTS} says")
        return "", [], list(_lines(text.splitlines(), read, notes))
    notes.append(
        f"warning: the model has neither {conda} nor {virtualenv} nor {REQUIREMENTS}, so its "
        "environment gets MLflow alone"
    )
    return "", [], []


def _of_conda(entries: list[Any], read: Read, notes: list[str]) -> tuple[str, list[str], list[str]]:
    python, packages, pip = "", list[str](), list[str]()
    for entry in entries:
        if (
            isinstance(entry, dict)
            and list(entry) == ["pip"]
            and isinstance(entry["pip"], list | None)
        ):
            pip += _lines(map(str, entry["pip"] or ()), read, notes)
        elif _name(str(entry)) == "python":
            python = re.sub(r"^python[\s=]*", "", str(entry).strip())
        else:
            packages.append(str(entry))
    return python, packages, pip


def _lines(
    lines: Iterable[str], read: Read, notes: list[str], *, deep: bool = True
) -> Iterator[str]:
    """Requirements without comments; files that are named among them are put in their place."""
    for raw in lines:
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        include = _INCLUDE.fullmatch(line)
        if include is None:
            if line:
                yield line
        elif include[1] in ("-c", "--constraint"):
            notes.append(f"warning: {line!r} is left out: constraints are not applied")
        else:
            text = read(include[2]) if deep else None
            if text is None:
                raise _refusal(f"its requirements name a file that it does not hold: {line}")
            yield from _lines(text.splitlines(), read, notes, deep=False)


def _to_load(named: set[str], version: str) -> list[str]:
    """What MLflow itself needs to load a model, as far as the model's files do not name it."""
    parts = re.match(r"(\d+)\.(\d+)", version)
    old = parts is not None and (int(parts[1]), int(parts[2])) < PKG_RESOURCES_UNTIL
    wanted = {}
    if "mlflow" not in named:
        wanted["mlflow-skinny"] = f"mlflow-skinny=={version}" if version else "mlflow-skinny"
        wanted["numpy"] = "numpy<2" if old else "numpy"
        wanted["pandas"] = "pandas<3" if old else "pandas"
    if old:
        wanted["setuptools"] = "setuptools<81"
    return [line for name, line in wanted.items() if name not in named]


def _name(requirement: str) -> str:
    """The package of a requirement, as PyPI compares names."""
    found = _PACKAGE.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else ""


def _listed(text: str, file: str) -> list[Any]:
    entries = _mapping(text, file).get("dependencies") or []
    if not isinstance(entries, list):
        raise _refusal(f"`dependencies` in its file {file} is no list")
    return entries


def _mapping(text: str, file: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _refusal(f"its file {file} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise _refusal(f"its file {file} holds no mapping")
    return found


def _refusal(why: str) -> HeadgateError:
    return HeadgateError(
        ErrorCode.BAD_ARGUMENT, f"the MLflow model cannot be deployed: {why}", target="model"
    )
