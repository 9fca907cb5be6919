"""What an environment was made from, and how that differs from what it is made from today."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from headgate_contracts import limits
from headgate_contracts.envelope import Value

_IMAGE = "sha256:"
_SHOWN_CHARS = 12
_BUILD_CHARS = 32
_NAME_END = re.compile(r"[\s=@;\[]")


class Made(Value):
    """One build of an environment: the name of a virtual environment, or the id of an image.

    ``images`` are the images that it is, or is built on: what a reference has meant. ``packages``
    are lines such as ``numpy==2.1.0``, Python itself among them.
    """

    id: str
    images: dict[str, str] = {}
    packages: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        return self.id.startswith(_IMAGE)

    @property
    def build(self) -> str:
        """Its name to others."""
        return self.id.removeprefix(_IMAGE)[:_BUILD_CHARS]


@dataclass(frozen=True, slots=True)
class Look:
    """What would be other today. ``unknown``: what could not be found out, and why."""

    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewed:
    """An environment made of what its parts are today, and what of that could not be asked."""

    made: Made
    unknown: tuple[str, ...] = ()


def changes(before: Made, after: Made) -> tuple[str, ...]:
    """How two builds differ, a line each, as many as are of use to a person."""
    images = _differences(before.images, after.images, lambda name, id: f"{name} {short(id)}")
    packages = _differences(_named(before.packages), _named(after.packages), lambda _, line: line)
    lines = [*images, *packages]
    if not lines and before.id != after.id:
        lines = [f"the image is {short(after.id)}, it was {short(before.id)}"]
    return bounded(lines)


def bounded(lines: Sequence[str]) -> tuple[str, ...]:
    """The first of many lines, none too long, and how many more there are."""
    most = limits.ENVIRONMENT_CHANGES_MAX
    if len(lines) > most:
        lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more"]
    return tuple(line[: limits.ENVIRONMENT_CHANGE_CHARS_MAX] for line in lines)


def short(id: str) -> str:
    """An image id as people read it."""
    return id.removeprefix(_IMAGE)[:_SHOWN_CHARS]


def _named(packages: Sequence[str]) -> dict[str, str]:
    return {_NAME_END.split(line, maxsplit=1)[0]: line for line in packages}


def _differences(
    before: Mapping[str, str], after: Mapping[str, str], word: Callable[[str, str], str]
) -> list[str]:
    lines = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None or new is None:
            lines.append(
                f"+ {word(name, new)}" if new is not None else f"- {word(name, old or '')}"
            )
        else:
            lines.append(f"{word(name, old)} -> {word(name, new)}")
    return lines
