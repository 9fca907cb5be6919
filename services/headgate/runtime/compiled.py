"""Which modules of the scoring path may be compiled, and whether what is compiled is up to date."""

from __future__ import annotations

import hashlib
import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path

SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))  # of extension modules for this Python


@dataclass(frozen=True, slots=True)
class Half:
    """Modules that are compiled together, as paths relative to the folder on the module path.

    ``record`` is written beside them: the fingerprint of the sources, and the name of the library
    that the extension modules share.
    """

    package: str
    modules: tuple[str, ...]
    record: str

    def fingerprint(self, root: Path) -> str:
        """Of the sources of all modules together."""
        digest = hashlib.sha256()
        for module in self.modules:
            digest.update((root / module).read_bytes())
        return digest.hexdigest()

    def write_record(self, root: Path, library: str) -> None:
        said = {"sources": self.fingerprint(root), "library": library}
        (root / self.record).write_text(json.dumps(said))

    def library(self, root: Path) -> str:
        """The shared library's name; empty unless it was made of the sources beside it."""
        try:
            said = json.loads((root / self.record).read_text())
            current = said["sources"] == self.fingerprint(root)
            return str(said["library"]) if current else ""
        except (OSError, ValueError, KeyError):
            return ""


def _half(package: str, names: str) -> Half:
    modules = tuple(f"{package}/{name}.py" for name in names.split())
    return Half(package.split("/", maxsplit=1)[0], modules, f"{package}/compiled.json")


# What is not here is not on the path of every request, or is made of things that mypyc has no
# native form for (pydantic models, generic log tables).
ROUTER = _half(
    "headgate/router",
    "answers arrivals clock_offset core deadlines dispatch exchange flights frames headers holding "
    "http1 ingress lane links parts pings quarantine requests scoring shape streams table traffic "
    "transfers turns usage_journal usage_page uuids wire",
)
WORKER = _half(
    "headgate_worker",
    "batch_executor bus core execution frames inbox inputs kept kinds lane links nats replies "
    "request scoring tracing",
)
HALVES = (ROUTER, WORKER)
