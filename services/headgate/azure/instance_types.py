"""Reads the catalogue of instance types: the one that comes along, and the user's on top."""

from __future__ import annotations

from pathlib import Path

from headgate.azure import yaml_nodes
from headgate.azure.yaml_nodes import Mapping, Node, Scalar, YamlTextError
from headgate.azure.yaml_shapes import Findings, nearest, shaped
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.instance_types import InstanceType, InstanceTypes

SHIPPED = Path(__file__).with_name("instance_types.yaml")
SETTING = "instance_types"
_KEYS = ("currency", "price_per_gb", "instance_types")
_CURRENCY_CHARS = 3
_PRICE_MAX = 1e9
_PROBLEMS_SHOWN_MAX = 10


def load(custom: Path | None = None) -> InstanceTypes:
    """The catalogue; ``custom`` adds sizes, or changes fields of those that are there.

    Raises HeadgateError(BadArgument) that names file, line and field of all that is wrong.
    """
    documents = [_read(SHIPPED)]
    if custom is not None:
        documents.append(_read(custom.expanduser()))
    findings = Findings()
    nodes: dict[str, tuple[str, Node]] = {}
    currency, price_per_gb = "USD", 0.0
    for document in documents:
        currency = _currency(document, findings) or currency
        price_per_gb = _price(document, findings, price_per_gb)
        for name, node in _sizes(document, findings).items():
            known = nodes.get(name.lower())
            if known is not None and isinstance(node, Mapping):
                _complete(node, known[1])
            nodes[name.lower()] = (known[0] if known else name, node)
    types = [_shaped(name, node, findings) for name, node in nodes.values()]
    if len(nodes) > limits.INSTANCE_TYPES_MAX:
        place = documents[-1].place
        findings.refuse(place, "instance_types", f"at most {limits.INSTANCE_TYPES_MAX:,} sizes")
    if findings.problems:
        raise _refusal("\n".join(map(str, findings.problems[:_PROBLEMS_SHOWN_MAX])))
    return InstanceTypes([each for each in types if each is not None], currency, price_per_gb)


def _read(path: Path) -> Mapping:
    try:
        with path.open("rb") as file:
            root = yaml_nodes.read(file.read(limits.YAML_BYTES_MAX + 1), str(path))
    except OSError as error:
        raise _refusal(f"{path} cannot be read: {error.strerror}") from None
    except YamlTextError as error:
        raise _refusal(str(error)) from None
    if not isinstance(root, Mapping):
        raise _refusal(f"{root.place}: must be a mapping with the key instance_types")
    return root


def _currency(document: Mapping, findings: Findings) -> str:
    for key, place in document.key_places.items():
        if key not in _KEYS:
            findings.refuse(place, key, f"unknown field{nearest(key, _KEYS)}")
    node = document.items.get("currency")
    if node is None:
        return ""
    text = node.text if isinstance(node, Scalar) else ""
    if len(text) != _CURRENCY_CHARS or not text.isalpha() or not text.isupper():
        findings.refuse(node.place, "currency", "must be the three letters of a currency (USD)")
    return text


def _price(document: Mapping, findings: Findings, known: float) -> float:
    node = document.items.get("price_per_gb")
    if node is None:
        return known
    try:
        price = float(node.text) if isinstance(node, Scalar) else -1.0
    except ValueError:
        price = -1.0
    if not 0 <= price < _PRICE_MAX:
        findings.refuse(node.place, "price_per_gb", "must be a price: a number, 0 or more")
        return known
    return price


def _sizes(document: Mapping, findings: Findings) -> dict[str, Node]:
    node = document.items.get("instance_types")
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return {}
    if not isinstance(node, Mapping):
        findings.refuse(node.place, "instance_types", "must be a mapping of names to sizes")
        return {}
    return node.items


def _complete(node: Mapping, base: Node) -> None:
    """Fields that are not given keep what the base says."""
    for key, item in base.items.items() if isinstance(base, Mapping) else ():
        node.items.setdefault(key, item)


def _shaped(name: str, node: Node, findings: Findings) -> InstanceType | None:
    path = f"instance_types.{name}"
    if isinstance(node, Mapping):
        if "name" in node.items:
            findings.refuse(node.items["name"].place, f"{path}.name", "unknown field")
            return None
        node.items["name"] = Scalar(node.place, name)
    return shaped(node, InstanceType, path, findings)


def _refusal(what: str) -> HeadgateError:
    return HeadgateError(ErrorCode.BAD_ARGUMENT, f"setting {SETTING!r}: {what}", target=SETTING)
