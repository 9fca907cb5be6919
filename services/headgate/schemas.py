"""Writes what is generated from the contracts: ``make schemas``.

JSON Schemas, the subject table and an AsyncAPI 3 document of the control plane. A change that
would break an existing reader or writer is refused; it needs a new message type instead.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from faststream.nats import NatsBroker
from faststream.specification import AsyncAPI

from headgate import __version__
from headgate.runtime.answers import Answers
from headgate_contracts import catalogue, rpc
from headgate_contracts.envelope import Reply

CONTRACTS = Path(__file__).parents[2] / "contracts"


def asyncapi() -> dict[str, Any]:
    """The control plane as AsyncAPI 3, taken from the same FastStream bindings that serve it."""
    broker = NatsBroker("nats://127.0.0.1:4222", logger=None)
    for service, table in rpc.ANSWERS.items():
        answers = Answers(broker, service)
        for request in table:
            answers.bind(request, _never_called)
    document = AsyncAPI(
        broker,
        title="Headgate control plane",
        version=__version__,
        description="Commands and queries of the services, asked over NATS request-reply.",
        schema_version="3.0.0",
    )
    loaded: dict[str, Any] = json.loads(document.to_specification().to_json())
    return loaded


def files() -> dict[Path, str]:
    """Path below ``contracts/`` -> content that should be there."""
    wanted = {Path("schemas") / name: _dump(schema) for name, schema in catalogue.schemas().items()}
    wanted[Path("asyncapi.json")] = _dump(asyncapi())
    wanted[Path("README.md")] = catalogue.subject_table()
    return wanted


def breaks(folder: Path = CONTRACTS) -> list[str]:
    """Every way in which the code would break the schemas that lie in ``folder``."""
    now = catalogue.schemas()
    found = []
    for path in sorted((folder / "schemas").glob("*.json")):
        if path.name not in now:
            found.append(f"{path.stem} is gone")
            continue
        changes = catalogue.breaking_changes(json.loads(path.read_text()), now[path.name])
        found += [f"{path.stem}{change}" for change in changes]
    return found


def main() -> int:
    """Write all files; with ``--force`` also when that breaks the committed schemas."""
    broken = breaks()
    if broken and "--force" not in sys.argv:
        sys.stderr.write("These changes break the wire; add a new message type instead:\n  ")
        sys.stderr.write("\n  ".join(broken) + "\n")
        return 1
    wanted = files()
    for path in (CONTRACTS / "schemas").glob("*.json"):
        if Path("schemas") / path.name not in wanted:
            path.unlink()
    for name, content in wanted.items():
        (CONTRACTS / name).parent.mkdir(parents=True, exist_ok=True)
        (CONTRACTS / name).write_text(content)
    sys.stdout.write(f"wrote {len(wanted)} files below {CONTRACTS.name}/\n")
    return 0


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


async def _never_called(_message: Any) -> Reply:
    raise AssertionError("a handler of the document is never called")


if __name__ == "__main__":
    sys.exit(main())
