"""What a command was asked to create or change: a YAML file, flags, and what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headgate.azure import yaml_changes
from headgate.azure.local_paths import LocalPaths
from headgate.azure.yaml_files import YamlFile
from headgate.azure.yaml_nodes import Mapping, Place, Scalar
from headgate.cli.errors import UsageError, warn
from headgate_contracts.envelope import Value

COMMAND_LINE = Place("command line")


@dataclass(frozen=True, slots=True)
class Asked:
    """The flags that shape a resource. ``fields`` are set from flags of their own."""

    file: Path | None = None
    fields: dict[str, str] = field(default_factory=dict)
    set: Sequence[str] = ()
    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    force_string: bool = False
    allow_outside: bool = False

    def document(self, stored: Value | None = None) -> YamlFile:
        """The file with the flags applied, over what is stored when something is changed."""
        given = (
            YamlFile.open(self.file, allow_outside=self.allow_outside)
            if self.file is not None
            else YamlFile(Mapping(COMMAND_LINE), _paths_without_file(self.allow_outside))
        )
        if stored is not None:
            values = stored.model_dump(mode="json", exclude_none=True)
            root = yaml_changes.from_value(values, Place("as stored"))
            assert isinstance(root, Mapping)
            yaml_changes.overlay(root, given.root)
            given.root = root
        for key, value in self.fields.items():
            if value:
                yaml_changes.put(given.root, key, value, f"--{key.replace('_', '-')}")
        for assignment in self.set:
            yaml_changes.set_value(given.root, assignment, force_string=self.force_string)
        for addition in self.add:
            yaml_changes.add(given.root, addition, force_string=self.force_string)
        for path in self.remove:
            yaml_changes.remove(given.root, path)
        return given

    def require_any(self) -> None:
        if not (self.file or self.set or self.add or self.remove):
            raise UsageError("nothing to change: give --file, --set, --add or --remove")


def named_in(asked: Asked, field_name: str) -> str:
    """A name that must be known before anything is read: from its flag, else from the file."""
    if not (name := asked.fields.get(field_name, "")) and asked.file is not None:
        given = YamlFile.open(asked.file).root.items.get(field_name)
        name = given.text if isinstance(given, Scalar) else ""
    if not name:
        raise UsageError(f"--{field_name.replace('_', '-')} is missing, and no --file names it")
    return name


def tell_warnings(document: YamlFile) -> None:
    for warning in document.warnings:
        warn(warning)


def percentages(words: Sequence[str], flag: str) -> dict[str, int]:
    """``blue=90 green=10`` as a mapping."""
    result: dict[str, int] = {}
    for word in " ".join(words).replace(",", " ").split():
        name, separator, number = word.partition("=")
        if not (separator and name and number.isascii() and number.isdecimal()):
            raise UsageError(f"{flag} {word!r}: write deployment=percent, such as blue=90")
        if name in result:
            raise UsageError(f"{flag}: {name!r} stands there twice")
        if int(number) > 100:
            raise UsageError(f"{flag} {word!r}: a percentage is at most 100")
        result[name] = int(number)
    return result


def _paths_without_file(allow_outside: bool) -> LocalPaths:
    return LocalPaths.of(Path.cwd() / "command-line", allow_outside=allow_outside)
