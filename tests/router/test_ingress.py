"""The HTTP edge on raw sockets: bodies, framing, hostile input; the bus entry beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio

from headgate.runtime import natsd
from headgate_contracts import limits, subjects
from router.stage import KEY, Instance, Stage, connected, request, staged

Names = Callable[[str], str]


@pytest_asyncio.fixture
async def served(stage: Stage, unique: Names) -> tuple[str, Instance]:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    return name, await stage.instance(name)


Served = tuple[str, Instance]


def head(endpoint: str, *lines: str, version: str = "1.1", key: str = KEY) -> bytes:
    first = f"POST /api/v1/endpoint/{endpoint}/score HTTP/{version}"
    said = [first, "Host: router.test", f"Authorization: Bearer {key}", *lines]
    return ("\r\n".join(said) + "\r\n\r\n").encode("latin-1")


async def test_a_body_over_the_limit_is_refused_before_it_is_read(
    stage: Stage, served: Served
) -> None:
    wire = await stage.wire()
    await wire.send(head(served[0], f"Content-Length: {limits.BODY_BYTES_MAX + 1}"))
    assert (await wire.receive()).status == 413
    assert served[1].runs == []
    await wire.close()


async def test_a_body_at_the_limit_arrives_whole(stage: Stage, served: Served) -> None:
    answer = await stage.ask(served[0], b"x" * limits.SCORING_BODY_BYTES_MAX)
    assert (answer.status, len(answer.body)) == (200, limits.SCORING_BODY_BYTES_MAX)


@pytest.mark.parametrize("bytes_max", [1_000_000, limits.BUS_PAYLOAD_BYTES_MAX + 1_000_000])
async def test_a_chunked_body_is_cut_where_it_passes_the_limit(
    nats: natsd.RunningServer, data_dir: Path, unique: Names, bytes_max: int
) -> None:
    async with staged(nats, data_dir, body_bytes_max=bytes_max) as stage:
        endpoint = unique("ep")
        await stage.route(endpoint, {"blue": 100})
        instance = await stage.instance(endpoint)
        wire = await stage.wire()
        await wire.send(head(endpoint, "Transfer-Encoding: chunked"))
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        try:
            for _ in range(bytes_max // 65_536 + 2):
                await wire.send(chunk)
        except ConnectionError:
            pass
        assert (await wire.receive()).status == 413
        assert instance.runs == []


async def test_many_tiny_chunks_are_one_body(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(head(served[0], "Transfer-Encoding: chunked"))
    await wire.send(b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    answer = await wire.receive()
    assert (answer.status, answer.body) == (200, b"x" * 100_000)
    await wire.close()


async def test_the_key_is_checked_before_the_body(stage: Stage, served: Served) -> None:
    """A small refused body is read past, so that the connection can be kept; a large one is not."""
    wire = await stage.wire()
    await wire.send(head(served[0], "Content-Length: 1000000", key="wrong"))
    assert (await wire.receive()).status == 401
    await wire.close()


async def test_continue_is_said_only_to_those_who_may(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(head(served[0], "Content-Length: 2", "Expect: 100-continue"))
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    await wire.send(b"{}")
    assert (await wire.receive()).status == 200
    await wire.send(head(served[0], "Content-Length: 2", "Expect: 100-continue", key="wrong"))
    assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")
    await wire.close()


async def test_pipelined_requests_are_answered_in_order(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(b"".join(request(served[0], b"%d" % n) for n in range(5)))
    assert [(await wire.receive()).body for _ in range(5)] == [b"%d" % n for n in range(5)]
    await wire.close()


async def test_http_1_0_is_answered_and_closed(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(head(served[0], "Content-Length: 2", version="1.0") + b"{}")
    answer = await wire.receive()
    assert (answer.status, answer.body) == (200, b"{}")
    assert await wire.at_end() == b""


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: -1",),
        ("Content-Length: 2x",),
        ("Transfer-Encoding: xchunked",),
        ("Bad Header : 1", "Content-Length: 2"),
        ("X: a\r\n folded", "Content-Length: 2"),
        ("X: a\0b", "Content-Length: 2"),
    ],
)
async def test_ambiguous_framing_is_refused_and_the_connection_closed(
    stage: Stage, served: Served, lines: tuple[str, ...]
) -> None:
    """What two parsers could read in two ways is how requests are smuggled."""
    wire = await stage.wire()
    await wire.send(head(served[0], *lines) + b"{}")
    assert (await wire.receive()).status == 400
    await wire.at_end()
    assert served[1].runs == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\0\0\0\0\r\n\r\n",
    ],
)
async def test_garbage_gets_an_answer_or_a_close_and_never_a_hang(
    stage: Stage, served: Served, garbage: bytes
) -> None:
    wire = await stage.wire()
    await wire.send(garbage)
    said = await wire.at_end()
    assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
    assert (await stage.ask(served[0])).status == 200


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("Content-Length: 5", b"whole"),
        ("Transfer-Encoding: chunked", b"3\r\nwho\r\n2\r\nle\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_an_upgrade_is_declined_and_the_request_answered(
    stage: Stage, served: Served, coding: str, body: bytes, at_once: bool
) -> None:
    """As clients expect that try HTTP/2 by default, such as Java's; nothing may follow it."""
    wire = await stage.wire()
    block = head(served[0], coding, *UPGRADE)
    smuggled = head(served[0], "Content-Length: 1") + b"x"
    for part in (block + body + smuggled,) if at_once else (block, body[:2], body[2:], smuggled):
        await wire.send(part)
    answer = await wire.receive()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert [run.body for run in served[1].runs] == [b"whole"]
    assert b"200" not in await wire.at_end()
    assert len(served[1].runs) == 1


async def test_an_upgrade_without_a_body_is_declined(stage: Stage) -> None:
    wire = await stage.wire()
    await wire.send(
        b"GET /livez HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert (await wire.receive()).body == b"ok\n"
    assert await wire.at_end() == b""


async def test_a_body_is_limited_beside_an_upgrade(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    size = stage.router.ingress.body_bytes_max + 1
    await wire.send(head(served[0], f"Content-Length: {size}", *UPGRADE))
    assert (await wire.receive()).status == 413


async def test_too_many_or_too_large_headers_are_431(stage: Stage, served: Served) -> None:
    many = {f"X-{n}": "1" for n in range(limits.REQUEST_HEADERS_MAX + 100)}
    assert (await stage.ask(served[0], headers=many)).status == 431
    large = {"X-Large": "x" * (2 * limits.REQUEST_HEADER_BYTES_MAX)}
    assert (await stage.ask(served[0], headers=large)).status == 431
    assert served[1].runs == []


@pytest.mark.parametrize("deployment", ["nope", "*", ">", "blue.x", "b" * 10_000, "blue,green"])
async def test_an_unknown_deployment_never_becomes_a_subject(
    stage: Stage, served: Served, deployment: str
) -> None:
    answer = await stage.ask(served[0], headers={"azureml-model-deployment": deployment})
    assert answer.status in (404, 431)
    assert served[1].runs == []


@pytest.mark.parametrize(("method", "status"), [("PUT", 405), ("DELETE", 405), ("TRACE", 405)])
async def test_other_verbs_are_refused(
    stage: Stage, served: Served, method: str, status: int
) -> None:
    assert (await stage.ask(served[0], method=method)).status == status


async def test_a_client_that_leaves_frees_its_slot(stage: Stage, served: Served) -> None:
    wire = await stage.wire()
    await wire.send(head(served[0], "Content-Length: 1000") + b"only a part")
    await wire.close()
    assert (await stage.ask(served[0])).status == 200


async def test_the_bus_entry_keeps_the_same_rules(stage: Stage, served: Served) -> None:
    """Key, header and status over the bus as over HTTP; an answer needs a place to go."""
    async with connected(stage.server, "probe") as probe:
        subject = subjects.score(served[0])
        good = {"Authorization": f"Bearer {KEY}"}
        answer = await probe.request(subject, b"hello", headers=good, timeout=10)
        assert answer.headers is not None
        assert (answer.headers["Hg-Status"], answer.data) == ("200", b"hello")
        for headers, status in (
            ({"Authorization": "Bearer wrong"}, "401"),
            ({}, "401"),
            ({**good, "azureml-model-deployment": "nope"}, "404"),
        ):
            refused = await probe.request(subject, b"x", headers=headers or None, timeout=10)
            assert refused.headers is not None
            assert refused.headers["Hg-Status"] == status


async def test_an_endpoint_without_public_access_is_reached_from_listed_networks_and_the_bus(
    nats: natsd.RunningServer, data_dir: Path, unique: Names
) -> None:
    for networks, status in (("", 403), ("10.0.0.0/8 127.0.0.0/8", 200)):
        async with staged(nats, data_dir / f"n{len(networks)}", private_networks=networks) as stage:
            endpoint = unique("ep")
            await stage.route(endpoint, {"blue": 100})
            await stage.instance(endpoint)
            wire = await stage.wire()
            asked = head(endpoint, "Content-Length: 2") + b"{}"
            await wire.send(asked)
            assert (await wire.receive()).status == 200
            await stage.route(endpoint, {"blue": 100}, is_public=False)
            await wire.send(asked)  # on a connection that the endpoint has answered before
            answer = await wire.receive()
            assert answer.status == status, answer.body
            assert status == 200 or answer.error["code"] == "NoPublicAccess"
            await wire.send(head(endpoint, "Content-Length: 2", key="wrong") + b"{}")
            assert (await wire.receive()).status == 401
            await wire.close()
            async with connected(stage.server, "probe") as probe:
                headers = {"Authorization": f"Bearer {KEY}"}
                said = await probe.request(
                    subjects.score(endpoint), b"x", headers=headers, timeout=10
                )
                assert said.headers is not None and said.headers["Hg-Status"] == "200"
