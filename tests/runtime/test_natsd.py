"""The private bus server: found, configured, ready, stable, and clear when something is wrong."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
from pathlib import Path

import nats as nats_client
import pytest

from headgate.runtime import natsd, procs
from headgate.runtime.natsd import RunningServer
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError


async def connect(server: RunningServer, service: str) -> nats_client.NATS:
    return await nats_client.connect(
        server.url,
        user_credentials=str(server.creds(service)),
        inbox_prefix=f"_INBOX_{service}".encode(),
    )


async def test_a_started_server_stores_messages_under_our_limits(nats: RunningServer) -> None:
    """Ready means ready: streams can be made at once, and the payload limit is the contract's."""
    client = await connect(nats, "bootstrap")
    try:
        assert client.max_payload == limits.BUS_PAYLOAD_BYTES_MAX
        js = client.jetstream()
        await js.add_stream(name="READY", subjects=["ready"], max_bytes=1024)
        await js.delete_stream("READY")
    finally:
        await client.close()


async def test_restart_keeps_the_port_and_the_identities(data_dir: Path) -> None:
    """A worker that was connected before a restart finds the bus again with what it has."""
    async with natsd.running(data_dir) as server:
        first_url = server.url
        creds = (data_dir / "keys" / "probe.seed").read_text()
        client = await nats_client.connect(
            server.url,
            user_credentials=str(server.creds("probe")),
            reconnect_time_wait=0.05,
            max_reconnect_attempts=-1,
        )
        await server.kill()
        await server.start()
        async with asyncio.timeout(10):
            while not client.is_connected:
                await asyncio.sleep(0.02)
        await client.close()
    async with natsd.running(data_dir) as server:
        assert server.url == first_url
        assert (data_dir / "keys" / "probe.seed").read_text() == creds


async def test_chosen_ports_lie_outside_the_range_of_outgoing_ports(data_dir: Path) -> None:
    """Otherwise a reconnecting client could connect to itself."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    port = int(natsd.prepare(data_dir).url.rpartition(":")[2])
    assert port < low


async def test_a_folder_name_with_blanks_and_quotes_is_no_problem(data_dir: Path) -> None:
    """Paths go into the configuration quoted."""
    async with natsd.running(data_dir / 'my "models" {ü}') as server:
        assert server.url


async def test_stored_state_survives_a_kill(data_dir: Path) -> None:
    """An acknowledged message is on disk: ``sync_interval: always`` is in force."""
    async with natsd.running(data_dir) as server:
        client = await connect(server, "bootstrap")
        await client.jetstream().add_stream(
            name="KEEP", subjects=["$JS.API.KEEP"], max_bytes=1024, no_ack=True
        )
        await client.close()
        await server.kill()
        await server.start()
        client = await connect(server, "bootstrap")
        assert (await client.jetstream().stream_info("KEEP")).config.max_bytes == 1024
        await client.close()
    assert "sync_interval: always" in server.server.config.read_text()


def test_the_configuration_opens_nothing_that_is_not_needed(data_dir: Path) -> None:
    """No listener besides clients and loopback monitoring, no anonymous user, no password."""
    server = natsd.prepare(data_dir)
    text = server.config.read_text()
    for word in (
        "websocket",
        "mqtt",
        "leafnodes",
        "cluster",
        "gateway",
        "no_auth_user",
        "password",
    ):
        assert not re.search(rf"^\s*{word}\b", text, re.MULTILINE), word
    assert re.search(r'^http: "127\.0\.0\.1:\d+"$', text, re.MULTILINE)
    assert stat.S_IMODE(server.config.stat().st_mode) == 0o600


async def test_stop_leaves_no_process(data_dir: Path) -> None:
    """SIGTERM is enough, and its exit status says that the end was orderly."""
    async with natsd.running(data_dir) as server:
        process = server.process
        assert process is not None
        identity = process.identity
        assert procs.is_running(identity)
    assert process.returncode == 0
    assert not procs.is_running(identity)


def test_a_taken_port_is_named(data_dir: Path) -> None:
    """A port that was asked for and is taken is an error, not another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HeadgateError, match=f"port {port}") as caught:
            natsd.prepare(data_dir, port=port)
    assert caught.value.error.code == ErrorCode.RESOURCE_CONFLICT


def test_a_missing_program_is_named_with_the_way_out(data_dir: Path) -> None:
    """The text names the program and the setting."""
    with pytest.raises(HeadgateError, match=r"/nowhere/nats-server.*nats_server"):
        natsd.prepare(data_dir, program=Path("/nowhere/nats-server"))


@pytest.mark.parametrize("says", ["nats-server: v2.9.10", "nats-server: v2.14.2", "hello"])
def test_an_old_server_is_refused_before_it_starts(data_dir: Path, says: str) -> None:
    """Old servers take our options silently and then lose messages."""
    program = data_dir / "nats-server"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    with pytest.raises(HeadgateError, match=r"at least 2\.14\.3") as caught:
        natsd.program_path(program)
    assert says in caught.value.error.message


def test_path_is_not_asked(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel's server is used even if another one comes first on PATH."""
    (data_dir / "nats-server").write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    (data_dir / "nats-server").chmod(0o755)
    monkeypatch.setenv("PATH", f"{data_dir}:{os.environ['PATH']}")
    assert natsd.program_path().parent != data_dir


async def test_a_server_that_ends_at_start_is_told_at_once(data_dir: Path) -> None:
    """The error names the exit and the logs instead of waiting for the ready time-out."""
    server = RunningServer(natsd.prepare(data_dir))
    server.server.config.write_text("listen: nonsense:")
    with pytest.raises(HeadgateError, match=r"ended at start with exit status 1.*nats\.log"):
        await server.start()
    assert "nats.conf" in (data_dir / "logs" / "nats.log").read_text()


async def test_a_stranger_on_the_port_is_not_taken_for_our_bus(
    nats: RunningServer, data_dir: Path
) -> None:
    """Readiness is a round trip with our own credentials, which another server refuses."""
    mine = natsd.prepare(data_dir)
    stranger = natsd.BusServer(
        program=mine.program,
        config=mine.config,
        url=nats.url,
        monitor_url=mine.monitor_url,
        keys=mine.keys,
        logs=mine.logs,
    )
    with pytest.raises(HeadgateError, match=r"not ready after 0\.5 s \(.*[Aa]uthorization"):
        await natsd.wait_ready(stranger, timeout_s=0.5)
