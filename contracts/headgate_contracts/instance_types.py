"""Named sizes of instances, and how one is found by its name.

Every service that needs sizes reads the same catalogue: the registry refuses names that are not in
it, the provisioner gives instances what it says, the gateway shows it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from pydantic import Field

from headgate_contracts import limits
from headgate_contracts.envelope import Value
from headgate_contracts.errors import ErrorCode, HeadgateError

_NEAR_MAX = 3
_SHOWN_CHARS_MAX = 80


class InstanceType(Value):
    """One size. ``elastic`` sizes are cut to the machine instead of not fitting on it."""

    name: str = Field(pattern=limits.INSTANCE_TYPE_PATTERN, description=limits.INSTANCE_TYPE_RULE)
    cores: float = Field(ge=limits.INSTANCE_CORES_MIN, le=limits.INSTANCE_CORES_MAX)
    memory_gib: float = Field(ge=limits.INSTANCE_MEMORY_GIB_MIN, le=limits.INSTANCE_MEMORY_GIB_MAX)
    gpus: int = Field(0, ge=0, le=limits.INSTANCE_GPUS_MAX)
    price_per_hour: float = Field(0.0, ge=0)
    elastic: bool = False
    description: str = Field("", max_length=limits.DESCRIPTION_CHARS_MAX)

    @property
    def memory_bytes(self) -> int:
        return int(self.memory_gib * 1024**3)


class InstanceTypes:
    """The catalogue: sizes by name, whatever the case, as Azure has it, and what else has a price.

    ``price_per_gb`` is that of 10^9 bytes of answers to clients.
    """

    def __init__(
        self, types: Iterable[InstanceType], currency: str = "USD", price_per_gb: float = 0.0
    ) -> None:
        self._by_name = {each.name.lower(): each for each in types}
        self.currency = currency
        self.price_per_gb = price_per_gb

    def __iter__(self) -> Iterator[InstanceType]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def get(self, name: str) -> InstanceType | None:
        """The size, or None when the catalogue has none of this name."""
        return self._by_name.get(name.lower())

    def find(self, name: str, target: str = "instance_type") -> InstanceType:
        """The size, or HeadgateError(BadArgument) that names those with similar names."""
        found = self.get(name)
        if found is None:
            raise HeadgateError(ErrorCode.BAD_ARGUMENT, self._unknown(name, target), target=target)
        return found

    def _unknown(self, name: str, target: str) -> str:
        near = difflib.get_close_matches(name.lower(), self._by_name, n=_NEAR_MAX, cutoff=0.6)
        hint = f"did you mean {' or '.join(self._by_name[each].name for each in near)}? "
        return (
            f"{target}: there is no instance type {name[:_SHOWN_CHARS_MAX]!r}; "
            f"{hint if near else ''}'headgate instance-type list' shows all {len(self)}"
        )


def in_gib(memory_bytes: int) -> str:
    """Memory as people read it: ``14 GiB``, ``512 MiB``."""
    gib = memory_bytes / 1024**3
    if gib >= 1:
        return f"{_short(round(gib, 1))} GiB"
    return f"{_short(round(memory_bytes / 1024**2, 1))} MiB"


def _short(number: float) -> str:
    return f"{number:g}" if number < 10_000 else f"{number:,.0f}"
