"""Which files of a folder are not uploaded: ``.amlignore``, else ``.gitignore``, as Azure does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IGNORE_FILES = (".amlignore", ".gitignore")
ALWAYS_IGNORED = ("__pycache__/", ".git/", "*.pyc", ".amlignore", ".gitignore")
_IGNORE_BYTES_MAX = 1_048_576


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an ignore file."""

    pattern: re.Pattern[str]
    only_folders: bool
    negated: bool


def rules_of(folder: Path) -> tuple[Rule, ...]:
    """The rules for a folder; only a file at its top counts."""
    lines: list[str] = []
    for name in IGNORE_FILES:
        file = folder / name
        if file.is_file():
            with file.open("rb") as stream:
                lines = stream.read(_IGNORE_BYTES_MAX).decode("utf-8", "replace").splitlines()
            break
    return parse((*lines, *ALWAYS_IGNORED))


def parse(lines: Iterable[str]) -> tuple[Rule, ...]:
    """Rules in the syntax of git; the last that matches a path decides."""
    rules = []
    for line in lines:
        text = line.rstrip("\r\n")
        text = text if text.endswith("\\ ") else text.rstrip(" ")
        if not text or text.startswith("#"):
            continue
        negated = text.startswith("!")
        text = text[1:] if negated else text.removeprefix("\\")
        only_folders = text.endswith("/")
        text = text.rstrip("/")
        anchored = "/" in text
        if not text:
            continue
        try:
            pattern = re.compile(_translated(text.removeprefix("/"), anchored))
        except re.error:  # such as [z-a]: matches nothing, as in git
            continue
        rules.append(Rule(pattern, only_folders, negated))
    return tuple(rules)


def is_ignored(rules: tuple[Rule, ...], path: str, *, is_folder: bool) -> bool:
    """Whether ``path`` (relative, with ``/``) is left out. Asked from the top down, so that
    nothing inside an ignored folder is ever asked about."""
    for rule in reversed(rules):
        if (is_folder or not rule.only_folders) and rule.pattern.fullmatch(path):
            return not rule.negated
    return False


def _translated(glob: str, anchored: bool) -> str:
    """A git pattern as a regular expression over the whole relative path."""
    parts = ["" if anchored else "(?:.*/)?"]
    at = 0
    while at < len(glob):
        if glob.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("/**", at) and at + 3 == len(glob):
            parts.append("/.+")
            at += 3
        elif glob[at] == "*":
            parts.append("[^/]*")
            at += 2 if glob.startswith("**", at) else 1
        elif glob[at] == "?":
            parts.append("[^/]")
            at += 1
        elif glob[at] == "[" and (end := glob.find("]", at + 2)) > 0:
            inside = glob[at + 1 : end].replace("\\", "\\\\")
            inside = f"^{inside[1:]}" if inside[0] in "!^" else inside
            parts.append(f"[{inside}]")
            at = end + 1
        else:
            at += glob[at] == "\\" and at + 1 < len(glob)
            parts.append(re.escape(glob[at]))
            at += 1
    return "".join(parts)
