"""The body of a request, as it comes in pieces."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import pytest

from headgate.router.exchange import Exchange
from headgate.router.spool import Spool, Spools

MESSAGE_BYTES_MAX = 1024 * 1024


class Application:
    """Takes bodies, and answers nobody."""

    closing = False
    date = ""
    body_bytes_max = 16 * MESSAGE_BYTES_MAX
    message_bytes_max = MESSAGE_BYTES_MAX

    def __init__(self, folder: Path) -> None:
        self._spools = Spools(folder, self.body_bytes_max)

    def spool(self, body: bytes) -> Spool:
        return self._spools.spool(body)


def read(pieces: Iterable[bytes], folder: Path) -> Exchange:
    exchange = Exchange(None)  # type: ignore[arg-type]
    application = Application(folder)
    for piece in pieces:
        exchange.add(piece, application)  # type: ignore[arg-type]
    exchange.end()
    return exchange


@pytest.mark.parametrize(
    "sizes",
    [[], [1], [3, 200_000, 1, 1, 40_000], [16_383, 1, 16_384, 1], [65_536] * 16, [1] * 5_000],
    ids=lambda sizes: f"{len(sizes)} pieces of {sum(sizes)} bytes",
)
def test_a_body_is_its_pieces_in_order(sizes: list[int], tmp_path: Path) -> None:
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    exchange = read(pieces, tmp_path)
    assert exchange.complete
    assert exchange.body == b"".join(pieces)
    assert type(exchange.body) is bytes
    assert exchange.body_bytes == sum(sizes)


@pytest.mark.parametrize("size", [1, 1000, 100_000], ids="{} bytes each".format)
def test_a_body_that_no_message_holds_goes_to_disk_whole(size: int, tmp_path: Path) -> None:
    count = MESSAGE_BYTES_MAX // size + 3
    pieces = [bytes([number % 251]) * size for number in range(count)]
    exchange = read(pieces, tmp_path)
    assert isinstance(exchange.body, Spool)
    assert len(exchange.body) == exchange.body_bytes == count * size
    assert exchange.body.read(0, count * size) == b"".join(pieces)


def test_a_body_in_single_bytes_takes_little_more_memory_than_it_has(tmp_path: Path) -> None:
    exchange = Exchange(None)  # type: ignore[arg-type]
    application = Application(tmp_path)
    tracemalloc.start()
    try:
        for number in range(400_000):
            exchange.add(bytes([number % 251]), application)  # type: ignore[arg-type]
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 2 * exchange.body_bytes
