"""The worker as one file, ``headgate_worker-<hash>.pyz``: put on the path of any environment.

On this machine it may be a folder instead, with the worker's half of the scoring path as machine
code. Pythons of another version do not see that and take the sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import secrets
import shutil
import zipfile
from pathlib import Path

from headgate.runtime.compiled import SUFFIX, WORKER
from headgate_contracts.errors import ErrorCode, HeadgateError

PACKAGE = "headgate_worker"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
_MAIN = f"""\
import runpy

runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
"""


def build(folder: Path) -> Path:
    """The archive of the installed worker package, written into ``folder`` if it is not there."""
    content = _sources(_root())
    archive = folder / f"{PACKAGE}-{_digest(content)}.pyz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = archive.with_name(f".{archive.name}.{secrets.token_hex(4)}")
        draft.write_bytes(_zipped(content))
        draft.replace(archive)
    return archive


def build_here(folder: Path) -> Path:
    """What Pythons of this machine run: a folder if the worker is compiled, else the archive."""
    root = _root()
    library = WORKER.library(root)
    if not library:
        return build(folder)
    content = _sources(root) | _machine_code(root, library)
    place = folder / f"{PACKAGE}-{_digest(content)}"
    if not place.exists():
        draft = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
        for name, data in content.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(data)
        try:
            draft.rename(place)
        except OSError:  # somebody else was quicker
            shutil.rmtree(draft)
    return place


def _root() -> Path:
    """The folder that the installed package lies in."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"the package {PACKAGE} is not installed beside headgate; install headgate again",
        )
    return Path(next(iter(places))).parent


def _sources(root: Path) -> dict[str, bytes]:
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted((root / PACKAGE).rglob("*.py"))
    }
    return {"__main__.py": _MAIN.encode(), **found}


def _machine_code(root: Path, library: str) -> dict[str, bytes]:
    names = [library, *(module.removesuffix(".py") + SUFFIX for module in WORKER.modules)]
    return {name: (root / name).read_bytes() for name in names}


def _digest(content: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in content.items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:16]


def _zipped(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()
