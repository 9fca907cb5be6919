"""YAML text as a tree that remembers where everything stands, read under limits.

YAML guesses the type of unquoted words (``no``, ``010``, ``1:30``, ``1e3``, dates). This reader
does not guess: a scalar stays text, together with whether it was quoted, and the schema of the
field decides later what it means. It works on the parser's events, so that a file is refused
while it is read: at most one document, no duplicate keys, no tags but ``!!str``, bounded in size,
depth, aliases and in what the aliases expand to.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from headgate_contracts import limits

EXPANDED_NODES_MAX = 100_000
_TOO_DEEP = f"nested deeper than {limits.YAML_DEPTH_MAX} levels"
_MERGE_KEY = "<<"
_STR_TAGS = (None, "!", "tag:yaml.org,2002:str")
_COLLECTION_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: a file with line and column from 1, or a command-line flag."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


class YamlTextError(Exception):
    """The text is no YAML that we accept; ``place`` says where that shows."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


@dataclass(frozen=True, slots=True)
class Scalar:
    """A piece of text; ``plain`` when it was not quoted, so that ``null`` may mean nothing."""

    place: Place
    text: str
    plain: bool = True
    size: int = 1
    depth: int = 1

    @property
    def is_null(self) -> bool:
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Sequence:
    """Items in order."""

    place: Place
    items: list[Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1


@dataclass(slots=True)
class Mapping:
    """Fields by key; ``key_places`` says where each key stands."""

    place: Place
    items: dict[str, Node] = field(default_factory=dict)
    key_places: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    depth: int = 1


Node = Scalar | Sequence | Mapping


def read(raw: bytes, source: str) -> Node:
    """The one document of ``raw``. Raises YamlTextError."""
    if len(raw) > limits.YAML_BYTES_MAX:
        raise YamlTextError(
            Place(source), f"larger than {limits.YAML_BYTES_MAX:,} bytes, the limit of a YAML file"
        )
    try:
        text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise YamlTextError(Place(source, line, column), "not UTF-8 text") from None
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    try:
        return _Composer(events, source).document()
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, text, source) from None
    except yaml.YAMLError as error:
        raise YamlTextError(Place(source), str(error).splitlines()[0]) from None


def _syntax_error(error: yaml.MarkedYAMLError, text: str, source: str) -> YamlTextError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return YamlTextError(Place(source), error.problem or "not valid YAML")
    place = Place(source, mark.line + 1, mark.column + 1)
    if "nesting depth" in (error.problem or ""):  # libyaml's own bound, far above ours
        return YamlTextError(place, _TOO_DEEP)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return YamlTextError(place, "a tab in the indentation; YAML allows only spaces there")
    context = f" {error.context}" if error.context else ""
    return YamlTextError(place, f"not valid YAML: {error.problem}{context}")


class _Composer:
    """Builds nodes from parser events. Aliases share their node; sizes count them in full."""

    def __init__(self, events: Iterator[yaml.Event], source: str) -> None:
        self._events = events
        self._source = source
        self._anchors: dict[str, Node | None] = {}
        self._aliases = 0

    def document(self) -> Node:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise YamlTextError(
                        self._place(event), "a second document begins here; one file holds one"
                    )
                self._anchors.clear()
                root = self._node(next(self._events), depth=1)
        if root is None:
            raise YamlTextError(Place(self._source), "the file is empty")
        return root

    def _place(self, event: yaml.Event) -> Place:
        mark = event.start_mark
        assert mark is not None, "the parser marks every event"
        return Place(self._source, mark.line + 1, mark.column + 1)

    def _node(self, event: yaml.Event, depth: int) -> Node:
        place = self._place(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        if depth > limits.YAML_DEPTH_MAX:
            raise YamlTextError(place, _TOO_DEEP)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        allowed = _STR_TAGS if isinstance(event, yaml.ScalarEvent) else _COLLECTION_TAGS
        if event.tag not in allowed:
            raise YamlTextError(place, f"the tag {event.tag!r} is not allowed; write plain values")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(place, event.value, plain=bool(event.implicit[0]))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(place, depth)
        else:
            node = self._mapping(place, depth)
        if node.size > EXPANDED_NODES_MAX:
            raise YamlTextError(
                place, f"holds more than {EXPANDED_NODES_MAX:,} values once aliases are followed"
            )
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent, place: Place) -> Node:
        self._aliases += 1
        if self._aliases > limits.YAML_ALIASES_MAX:
            raise YamlTextError(place, f"more than {limits.YAML_ALIASES_MAX} aliases")
        if event.anchor is None or event.anchor not in self._anchors:
            raise YamlTextError(place, f"the alias *{event.anchor} has no anchor before it")
        node = self._anchors[event.anchor]
        if node is None:
            raise YamlTextError(place, f"the alias *{event.anchor} stands inside its own anchor")
        return node

    def _sequence(self, place: Place, depth: int) -> Sequence:
        found = Sequence(place)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            found.items.append(item)
            self._grow(found, item)
        return found

    def _mapping(self, place: Place, depth: int) -> Mapping:
        found = Mapping(place)
        merged: list[tuple[Place, Node]] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key_place = self._place(event)
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise YamlTextError(
                    key_place,
                    "a key must be a word; a placeholder {{...}} has to be filled in first",
                )
            value = self._node(next(self._events), depth + 1)
            self._grow(found, value)
            if key.plain and key.text == _MERGE_KEY:
                merged.append((key_place, value))
                continue
            if key.text in found.items:
                first = found.key_places[key.text]
                raise YamlTextError(
                    key_place, f"the key {key.text!r} stands here twice, first in line {first.line}"
                )
            found.items[key.text] = value
            found.key_places[key.text] = key_place
        for merge_place, value in merged:
            self._merge(found, merge_place, value)
        return found

    def _merge(self, into: Mapping, place: Place, value: Node) -> None:
        """``<<: *base``: keys of the base that are not given here; earlier bases win."""
        for base in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(base, Mapping):
                raise YamlTextError(place, "'<<' takes a mapping or a list of mappings")
            for key, item in base.items.items():
                if key not in into.items:
                    into.items[key] = item
                    into.key_places[key] = base.key_places[key]

    def _grow(self, parent: Sequence | Mapping, child: Node) -> None:
        parent.size += child.size
        parent.depth = max(parent.depth, child.depth + 1)
        if parent.depth > limits.YAML_DEPTH_MAX:
            raise YamlTextError(parent.place, f"{_TOO_DEEP} with its aliases")
