"""One document on stdout: a table for people, JSON or YAML for programs."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from headgate.cli.errors import UsageError
from headgate.cli.options import Format
from headgate.runtime.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

TEXT_CHARS = 24  # what a column of texts has at least
_PADDING_CHARS = 3  # two beside a cell, one between columns
_TIME = re.compile(r"\A(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d{3}(?=Z))?)(?:\.\d+)?Z\Z")
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

        write_shown(yaml.safe_dump(document, sort_keys=False, allow_unicode=_is_unicode()))
    elif form is Format.TSV:
        for row in document if isinstance(document, list) else [document]:
            values = row.values() if isinstance(row, dict) else [row]
            write_shown("\t".join(_cell(value) for value in values) + "\n")
    elif form is Format.CSV:
        _csv(document if isinstance(document, list) else [document], columns)
    else:
        write_shown(as_json(document) + "\n")


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


def write_shown(text: str) -> None:
    """Text with what others have written: a terminal is not steered by it, a program gets all."""
    write(visible(text) if sys.stdout.isatty() else text)


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
    write_shown(text.getvalue())


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
    """Nothing is cut: texts wrap, and what is wider than the terminal is left to it to wrap."""
    if isinstance(document, list) and all(isinstance(row, dict) for row in document):
        _rows(document, columns)
    elif isinstance(document, dict):
        _fields(document)
    else:
        _console().print(visible(_cell(document)), markup=False, highlight=False, soft_wrap=True)


def _rows(rows: list[dict[str, Any]], columns: Columns) -> None:
    """A line for each; columns in which no row has anything are left out."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    titles = columns if isinstance(columns, Mapping) else {}
    cells = {name: [visible(_cell_for_people(row.get(name))) for row in rows] for name in names}
    shown = {
        titles.get(name, name.replace("_", " ")): cells[name]
        for name in names
        if any(cells[name]) or not rows
    }
    if not rows:
        shown |= {heading: ["(none)"] for heading in list(shown)[:1]}
    console = _console()
    widths = {heading: _width(heading, column) for heading, column in shown.items()}
    if _total(widths) > console.width:
        widths = {
            heading: _width(max(heading.split(), key=len, default=""), column)
            for heading, column in shown.items()
        }
    table = Table(box=box.SIMPLE_HEAD)
    for heading, width in widths.items():
        table.add_column(heading, width=width, overflow="fold")
    for row in zip_longest(*shown.values(), fillvalue=""):
        table.add_row(*map(Text, row))
    console.width = max(console.width, _total(widths))
    console.print(table)


def _width(heading: str, cells: list[str]) -> int | None:
    """Characters that a column needs; None for long texts, which share what is left."""
    longest = max(len(line) for text in (heading, *cells) for line in text.splitlines() or [""])
    return None if longest > TEXT_CHARS and any(" " in cell for cell in cells) else longest


def _total(widths: Mapping[str, int | None]) -> int:
    return 1 + sum((width or TEXT_CHARS) + _PADDING_CHARS for width in widths.values())


def _fields(document: dict[str, Any]) -> None:
    """A line for each field that has something; a mapping of mappings has one for each of them."""
    from textwrap import wrap

    from rich.text import Text

    lines: dict[str, str] = {}
    for key, value in document.items():
        named = {key: value}
        if isinstance(value, dict) and all(isinstance(item, dict) for item in value.values()):
            named = {f"{key} {name}": item for name, item in value.items()}
        for name, item in named.items():
            if item not in (None, "", {}, []):
                lines[visible(name.replace("_", " "))] = visible(_cell_for_people(item))
    console = _console()
    indent = max(map(len, lines), default=0) + 2
    room = max(console.width - indent, TEXT_CHARS)
    for name, text in lines.items():
        parts = [
            part
            for line in text.splitlines()
            for part in wrap(line, room, break_long_words=False, break_on_hyphens=False) or [""]
        ]
        said = Text(name.ljust(indent), style="bold")
        said.append(("\n" + " " * indent).join(parts), style="not bold")
        console.print(said, soft_wrap=True)


def _cell_for_people(value: Any) -> str:
    """A cell without what tells a person nothing: microseconds, empty fields, brackets."""
    if isinstance(value, str):
        return people_time(value)
    if isinstance(value, dict):
        return " ".join(f"{path}={text}" for path, text in _leaves(value) if text)
    if isinstance(value, list) and all(isinstance(i, dict) and "name" not in i for i in value):
        return "\n".join(map(_cell_for_people, value))
    return _cell(value)


def people_time(text: str) -> str:
    """An RFC 3339 time without microseconds; any other text as it is."""
    return _TIME.sub(r"\1 \2Z", text)


def _leaves(fields: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """What a mapping holds with what is within it, each by its path."""
    for name, item in fields.items():
        if isinstance(item, dict):
            yield from _leaves(item, f"{above}{name}.")
        else:
            yield f"{above}{name}", _cell_for_people(item)


def _console() -> Console:
    from rich.console import Console

    # A pipe has no width; rows must not be cut to 80 columns there.
    return Console() if sys.stdout.isatty() else Console(width=200, no_color=True)
