"""What fits on this machine: sizes cut to it, room counted, shortages in words.

Pure. Sizes that are promises are counted in full. *Elastic* ones (Azure's names, unless the setting
``elastic_types`` says otherwise) get what the machine has and count with what an empty worker
takes, so that files written for large machines run on small ones; their GPUs are counted in full.

A slot keeps its room while it waits for a restart; an instance that is being stopped keeps its own
until it has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from headgate.provisioner.drivers import Limits
from headgate.provisioner.values import Observed, Start, State
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, WireError
from headgate_contracts.instance_types import InstanceType, in_gib

ELASTIC_MEMORY_BYTES = 32 * 1024**2
NOTHING = Limits(0.0, 0, 0)
_ROUNDING = 1e-6  # of cores, which are no whole numbers

Key = tuple[str, str]  # endpoint, deployment


@dataclass(frozen=True, slots=True)
class Size:
    """What an instance of a type may use here, and what is counted for it."""

    name: str
    limits: Limits
    counted: Limits


def size_of(kind: InstanceType, total: Limits, *, strict: bool) -> Size:
    """A type of the catalogue on a machine with ``total``."""
    full = Limits(kind.cores, kind.memory_bytes, kind.gpus)
    if strict or not kind.elastic:
        return Size(kind.name, full, full)
    cut = Limits(
        min(kind.cores, total.cores), min(kind.memory_bytes, total.memory_bytes), kind.gpus
    )
    memory_bytes = min(ELASTIC_MEMORY_BYTES, cut.memory_bytes)
    return Size(kind.name, cut, Limits(0.0, memory_bytes, kind.gpus))


@dataclass(frozen=True, slots=True)
class Room:
    """The machine as one deployment sees it.

    ``others``: counted for other deployments, of which ``leaving`` is about to become free.
    ``sizes``: by version, of this deployment.
    """

    total: Limits
    others: Limits = NOTHING
    leaving: Limits = NOTHING
    sizes: Mapping[str, Size] = field(default_factory=dict)

    def counted(self, specs: Iterable[str]) -> Limits:
        """What instances of these versions take together."""
        sizes = (self.sizes.get(spec) for spec in specs)
        return total_of(size.counted for size in sizes if size is not None)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one deployment takes, and what of it is about to become free."""

    taken: Limits = NOTHING
    leaving: Limits = NOTHING


class Ledger:
    """What each deployment of a machine takes."""

    def __init__(self, total: Limits) -> None:
        self.total = total
        self._held: dict[Key, Holding] = {}

    def claim(self, key: Key, holding: Holding) -> None:
        """From now on this, and nothing else, is taken for the deployment."""
        self._held[key] = holding

    def release(self, key: Key) -> None:
        self._held.pop(key, None)

    @property
    def taken(self) -> Limits:
        return total_of(held.taken for held in self._held.values())

    def room_for(self, key: Key, sizes: Mapping[str, Size]) -> Room:
        others = [held for other, held in self._held.items() if other != key]
        return Room(
            self.total,
            total_of(held.taken for held in others),
            total_of(held.leaving for held in others),
            dict(sizes),
        )


@dataclass(frozen=True, slots=True)
class Admitted:
    """Which starts have room, and why the first of the others has none. ``free`` is after them."""

    starts: tuple[Start, ...]
    free: Limits
    lacking: str = ""  # the version


def admit(
    starts: Sequence[Start],
    here: Sequence[Observed],
    waiting: Sequence[Observed],
    room: Room,
) -> Admitted:
    """Starts in their order as far as there is room. ``waiting``: slots before their restart."""
    kept = {(each.spec, each.slot) for each in waiting}
    running = [each.spec for each in here if each.state is not State.ENDED]
    own = room.counted([*running, *(each.spec for each in waiting)])
    free = minus(minus(room.total, room.others), own)
    admitted: list[Start] = []
    lacking = ""
    for start in starts:
        if (start.spec, start.slot) in kept:
            admitted.append(start)
            continue
        needs = room.counted([start.spec])
        if lacking or not fits(needs, free):
            lacking = lacking or start.spec
            continue
        admitted.append(start)
        free = minus(free, needs)
    return Admitted(tuple(admitted), free, lacking)


def holding(
    room: Room,
    here: Sequence[Observed],
    waiting: Sequence[Observed],
    starts: Sequence[Start],
    stopping: Iterable[str],
) -> Holding:
    """What is taken once the starts have begun and the stops been asked for."""
    running = [each for each in here if each.state is not State.ENDED]
    kept = {(each.spec, each.slot) for each in waiting}
    fresh = [start.spec for start in starts if (start.spec, start.slot) not in kept]
    named = set(stopping)
    leaving = [i.spec for i in running if i.state is State.STOPPING or i.id in named]
    taken = [*(i.spec for i in running), *(i.spec for i in waiting), *fresh]
    return Holding(room.counted(taken), room.counted(leaving))


def instances_max(total: Limits, size: Size) -> int:
    """How many instances of a size an empty machine holds, as far as a deployment may have any."""
    each, most = size.counted, limits.INSTANCES_PER_DEPLOYMENT_MAX
    if each.cores:
        most = min(most, int((total.cores + _ROUNDING) / each.cores))
    if each.memory_bytes:
        most = min(most, total.memory_bytes // each.memory_bytes)
    if each.gpus:
        most = min(most, total.gpus // each.gpus)
    return most


def how_many_to_give(room: Room, target: str, fallback: str, free: Limits, most: int) -> int:
    """How few instances of the fallback make room for one of the target; 0: ``most`` would not."""
    needs, given = room.counted([target]), room.counted([fallback])
    for count in range(1, most + 1):
        free = plus(free, given)
        if fits(needs, free):
            return count
    return 0


def shortage(room: Room, spec: str, free: Limits, running: int, wanted: int) -> WireError:
    """OutOfQuota with the numbers."""
    size = room.sizes[spec]
    needs, total = size.counted, room.total
    memory = f"{in_gib(max(0, free.memory_bytes))} of {in_gib(total.memory_bytes)}"
    lines = [
        (
            needs.cores > free.cores + _ROUNDING,
            _count(needs.cores, "core"),
            _free(free.cores, total.cores, "core"),
        ),
        (
            needs.memory_bytes > free.memory_bytes,
            f"{in_gib(needs.memory_bytes)} of memory",
            memory,
        ),
        (needs.gpus > free.gpus, _count(needs.gpus, "GPU"), _free(free.gpus, total.gpus, "GPU")),
    ]
    lacks = [(need, there) for is_short, need, there in lines if is_short]
    message = (
        f"there is no room on this host for another instance of type {size.name!r}: it needs "
        f"{' and '.join(need for need, _ in lacks)}, free: "
        f"{', '.join(there for _, there in lacks)} ({running} of {wanted} instances run). It is "
        "started as soon as there is room; or choose a smaller instance_type or fewer instances, "
        "or stop something else"
    )
    return WireError(code=ErrorCode.OUT_OF_QUOTA, message=message, target="instance_type")


def _count(number: float, unit: str) -> str:
    return f"{number:g} {unit}" if number == 1 else f"{number:g} {unit}s"


def _free(free: float, total: float, unit: str) -> str:
    return f"{max(0.0, round(free, 3)):g} of {_count(total, unit)}"


# --- arithmetic --------------------------------------------------------------------------------


def plus(one: Limits, other: Limits) -> Limits:
    return Limits(
        one.cores + other.cores, one.memory_bytes + other.memory_bytes, one.gpus + other.gpus
    )


def minus(one: Limits, other: Limits) -> Limits:
    return Limits(
        one.cores - other.cores, one.memory_bytes - other.memory_bytes, one.gpus - other.gpus
    )


def total_of(parts: Iterable[Limits]) -> Limits:
    total = NOTHING
    for part in parts:
        total = plus(total, part)
    return total


def fits(needs: Limits, free: Limits) -> bool:
    """Whether all of it is there. What needs nothing of a kind fits even where too much is used."""
    return (
        (needs.cores <= free.cores + _ROUNDING or not needs.cores)
        and (needs.memory_bytes <= free.memory_bytes or not needs.memory_bytes)
        and (needs.gpus <= free.gpus or not needs.gpus)
    )
