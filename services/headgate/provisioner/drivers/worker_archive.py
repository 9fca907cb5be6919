"""The worker as one file, ``headgate_worker-<hash>.pyz``: put on the path of any environment."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import secrets
import zipfile
from pathlib import Path

from headgate_contracts.errors import ErrorCode, HeadgateError

PACKAGE = "headgate_worker"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes
_MAIN = f"""\
import runpy

runpy.run_module({PACKAGE!r}, run_name="__main__", alter_sys=True)
"""


def build(folder: Path) -> Path:
    """The archive of the installed worker package, written into ``folder`` if it is not there."""
    content = _sources()
    digest = hashlib.sha256()
    for name, data in content.items():
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    archive = folder / f"{PACKAGE}-{digest.hexdigest()[:16]}.pyz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = archive.with_name(f".{archive.name}.{secrets.token_hex(4)}")
        draft.write_bytes(_zipped(content))
        draft.replace(archive)
    return archive


def _sources() -> dict[str, bytes]:
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    if not places:
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"the package {PACKAGE} is not installed beside headgate; install headgate again",
        )
    root = Path(next(iter(places)))
    found = {
        f"{PACKAGE}/{path.relative_to(root).as_posix()}": path.read_bytes()
        for path in sorted(root.rglob("*.py"))
    }
    return {"__main__.py": _MAIN.encode(), **found}


def _zipped(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
    return buffer.getvalue()
