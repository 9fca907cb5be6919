"""Changes to a YAML tree by flags, as ``az`` has them: ``--set``, ``--add``, ``--remove``, overlay.

Paths are dotted, with ``[2]`` for an item of a list and ``['a.b']`` for a key that holds dots.
Values stay text until the schema of their field decides; those that begin with ``{`` or ``[`` are
read as JSON, unless the user forces text.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from headgate.azure import yaml_nodes
from headgate.azure.yaml_nodes import Mapping, Node, Place, Scalar, Sequence
from headgate.azure.yaml_shapes import Problem

_STEP = re.compile(r"""\.?([^.\[\]'"=]+)|\[(\d{1,6})\]|\[(?:'([^']*)'|"([^"]*)")\]""")
_MERGED_MAPS = ("tags", "properties", "environment_variables")


class ChangeError(Exception):
    """A flag that makes no sense; ``problem`` says why."""

    def __init__(self, place: Place, message: str) -> None:
        self.problem = Problem(place, "", message)
        super().__init__(str(self.problem))


def from_value(value: Any, place: Place) -> Node:
    """The tree of a JSON value that was not read from a file."""
    if isinstance(value, dict):
        items = {str(key): from_value(item, place) for key, item in value.items()}
        return Mapping(place, items, dict.fromkeys(items, place))
    if isinstance(value, (list, tuple)):
        return Sequence(place, [from_value(item, place) for item in value])
    if value is None:
        return Scalar(place, "")
    if isinstance(value, bool):
        return Scalar(place, str(value).lower())
    return Scalar(place, str(value), plain=not isinstance(value, str))


def put(root: Mapping, key: str, value: str, source: str) -> None:
    """Sets a field of the root to a text that came from a flag of its own, such as ``--name``."""
    place = Place(source)
    root.items[key] = Scalar(place, value, plain=False)
    root.key_places[key] = place


def overlay(stored: Mapping, given: Mapping) -> None:
    """The fields of ``given`` over those of ``stored``; maps of free names are merged."""
    for key, value in given.items.items():
        old = stored.items.get(key)
        if key in _MERGED_MAPS and isinstance(old, Mapping) and isinstance(value, Mapping):
            old.items.update(value.items)
            old.key_places.update(value.key_places)
        else:
            stored.items[key] = value
        stored.key_places[key] = given.key_places[key]


def set_value(root: Mapping, assignment: str, *, force_string: bool = False) -> None:
    """``--set a.b.c=value``; what is missing on the way is made."""
    place = Place(f"--set {_left_of(assignment)}")
    path, separator, text = assignment.partition("=")
    if not separator:
        raise ChangeError(Place("--set"), f"{path!r} has no '='; write path=value")
    _assign(root, _steps(path, place), _value(text, place, force_string), place)


def add(root: Mapping, addition: str, *, force_string: bool = False) -> None:
    """``--add path=value``: one more item of a list, or a ``key=value`` of a mapping."""
    path, separator, text = addition.partition("=")
    place = Place(f"--add {path[:80]}")
    if not separator:
        raise ChangeError(place, "has no value; write path value")
    steps = _steps(path, place)
    found = _found(root, steps)
    pair = re.match(r"([^={\[\"']+)=(.*)\Z", text, re.DOTALL)
    if pair and not isinstance(found, Sequence):
        key = pair[1].replace("'", "")
        set_value(root, f"{path}['{key}']={pair[2]}", force_string=force_string)
        return
    value = _value(text, place, force_string)
    if pair:
        item = _value(pair[2], place, force_string)
        value = Mapping(place, {pair[1]: item}, {pair[1]: place})
    if found is None:
        _assign(root, steps, Sequence(place, [value]), place)
    elif isinstance(found, Sequence):
        found.items.append(value)
    else:
        raise ChangeError(place, "is no list; write key=value for a mapping")


def remove(root: Mapping, path: str) -> None:
    """``--remove path``: a field, a key of a mapping, or ``list[2]``."""
    place = Place(f"--remove {path}")
    *parents, last = _steps(path, place)
    where = _found(root, parents)
    if where is None or _found(where, [last]) is None:
        raise ChangeError(place, "there is nothing at this path")
    if isinstance(last, int) and isinstance(where, Sequence):
        del where.items[last]
    if isinstance(last, str) and isinstance(where, Mapping):
        del where.items[last]


def _left_of(assignment: str) -> str:
    """The path of an assignment: its value may be a secret and is shown nowhere."""
    return assignment.partition("=")[0][:80]


def _steps(path: str, place: Place) -> list[str | int]:
    steps: list[str | int] = []
    at = 0
    while match := _STEP.match(path, at):
        name, index, single, double = match.groups()
        steps.append(int(index) if index is not None else name or single or double or "")
        at = match.end()
    if at != len(path) or not steps or not isinstance(steps[0], str):
        raise ChangeError(place, f"{path[:80]!r} is no path; write field.field[0].field")
    return steps


def _value(text: str, place: Place, force_string: bool) -> Node:
    if force_string or not text.startswith(("{", "[")):
        return Scalar(place, text, plain=not force_string)
    try:
        return yaml_nodes.read(text.encode(), place.source)
    except yaml_nodes.YamlTextError as error:
        raise ChangeError(place, f"is no JSON value: {error.message}") from None


def _found(root: Node, steps: list[str | int]) -> Node | None:
    where: Node | None = root
    for step in steps:
        if isinstance(where, Mapping) and isinstance(step, str):
            where = where.items.get(step)
        elif isinstance(where, Sequence) and isinstance(step, int) and step < len(where.items):
            where = where.items[step]
        else:
            return None
    return where


def _assign(root: Node, steps: list[str | int], value: Node, place: Place) -> None:
    """Puts ``value`` at the end of a path; what is missing on the way is made."""
    where = root
    for step, following in pairwise(steps):
        where = _entered(where, step, following, place)
    _assign_child(where, steps[-1], value, place)


def _entered(where: Node, step: str | int, following: str | int, place: Place) -> Node:
    """The child at ``step``, made when it is not there."""
    inner = _found(where, [step])
    if inner is None or (isinstance(inner, Scalar) and inner.is_null):
        inner = Mapping(place) if isinstance(following, str) else Sequence(place)
        _assign_child(where, step, inner, place)
    return inner


def _assign_child(where: Node, step: str | int, value: Node, place: Place) -> None:
    if isinstance(where, Mapping) and isinstance(step, str):
        where.items[step] = value
        where.key_places[step] = place
    elif isinstance(where, Sequence) and isinstance(step, int) and step <= len(where.items):
        where.items[step : step + 1] = [value]
    elif isinstance(where, Sequence):
        raise ChangeError(place, f"the list has {len(where.items)} items; the next is its end")
    else:
        raise ChangeError(place, f"{step!r} cannot be set inside a single value")
