"""One document on stdout: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headgate.cli.errors import UsageError
from headgate.cli.options import Format

if TYPE_CHECKING:
    from rich.console import Console

_STEP = re.compile(r"\.?([\w-]+)|\.?\"([^\"]+)\"|\[(\d+)\]")


Columns = Mapping[str, str] | Sequence[str]
"""The fields that a table of a list shows, with their headings where the names are too long."""


def show(document: Any, form: Format | None, query: str = "", columns: Columns = ()) -> None:
    """Prints ``document``, or the part of it at the path ``query``."""
    document = _picked(document, query) if query else document
    form = form_of(form)
    if form is Format.TABLE:
        _table(document, columns if not query else ())
    elif form is Format.YAML:
        import yaml

        write(yaml.safe_dump(document, sort_keys=False, allow_unicode=_is_unicode()))
    elif form is Format.TSV:
        for row in document if isinstance(document, list) else [document]:
            values = row.values() if isinstance(row, dict) else [row]
            write("\t".join(_cell(value) for value in values) + "\n")
    elif form is Format.CSV:
        _csv(document if isinstance(document, list) else [document], columns)
    else:
        write(as_json(document) + "\n")


def form_of(given: Format | None) -> Format:
    """What was asked for; else a table for a person, JSON for a program."""
    return given or (Format.TABLE if sys.stdout.isatty() else Format.JSON)


def as_json(document: Any, *, indent: int | None = 2) -> str:
    """JSON that the terminal's encoding can hold."""
    return json.dumps(document, indent=indent, ensure_ascii=not _is_unicode())


def write(text: str) -> None:
    """Text on stdout, at once: a reader behind a pipe must not wait for more."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_bytes(raw: bytes) -> None:
    """Bytes on stdout as they are; a newline is added where a person reads text."""
    sys.stdout.flush()
    sys.stdout.buffer.write(raw)
    if sys.stdout.isatty() and not raw.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _csv(rows: list[Any], columns: Columns) -> None:
    """RFC 4180, with a line of headings."""
    records = [row if isinstance(row, dict) else {"value": row} for row in rows]
    names = list(dict.fromkeys(name for record in records for name in record)) or list(columns)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows([_cell(record.get(name)) for name in names] for record in records)
    write(text.getvalue())


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _picked(document: Any, query: str) -> Any:
    """The part of the document at a dotted path; None where there is none."""
    at = 0
    while match := _STEP.match(query, at):
        name, quoted, index = match.groups()
        at = match.end()
        if index is not None:
            items = document if isinstance(document, list) else []
            document = items[int(index)] if int(index) < len(items) else None
        else:
            document = document.get(name or quoted) if isinstance(document, dict) else None
    if at != len(query):
        raise UsageError(f"--query {query!r}: write a path such as traffic.blue or [0].name")
    return document


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and all(not isinstance(v, dict | list) for v in value.values()):
        return " ".join(f"{key}={_cell(item)}" for key, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
        return ", ".join(str(item["name"]) for item in value)
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _table(document: Any, columns: Columns) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console()
    if isinstance(document, list) and all(isinstance(row, dict) for row in document):
        names = list(columns) or list(dict.fromkeys(key for row in document for key in row))
        titles = columns if isinstance(columns, Mapping) else {}
        headings = [titles.get(name, name.replace("_", " ")) for name in names]
        table = Table(*headings, box=box.SIMPLE_HEAD)
        for row in document:
            table.add_row(*(Text(_cell(row.get(name))) for name in names))
        if not document:
            table.add_row(*["(none)"][: len(names)])
        console.print(table)
    elif isinstance(document, dict):
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for key, value in document.items():
            if value not in (None, "", {}, []):
                table.add_row(key.replace("_", " "), Text(_cell(value)))
        console.print(table)
    else:
        console.print(Text(_cell(document)))


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width; rows must not be cut to 80 columns there.
    return Console() if sys.stdout.isatty() else Console(width=200, no_color=True)
