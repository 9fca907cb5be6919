"""Bodies and answers larger than a message of the bus, through everything that runs; memory too."""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from acceptance.load import Target
from acceptance.models import deployment_file
from acceptance.system import Headgate

MEBIBYTE = 1024 * 1024
SCRIPT = """
import hashlib
from azureml.contrib.services.aml_request import rawhttp

def init():
    pass

@rawhttp
def run(request):
    made = int(request.args.get("make", "0"))
    if not made:
        return hashlib.sha256(request.get_data()).hexdigest()
    if request.args.get("how") == "whole":
        return "x" * made
    return (b"%08d" % number * 8192 for number in range(made // 65536))
"""

PATIENT = {"request_settings": {"request_timeout_ms": 60_000}}


@pytest.fixture
def served(headgate: Headgate, new_endpoint: Callable[[], str], files: Path) -> Target:
    name = new_endpoint()
    file = deployment_file(files / name, name, "blue", SCRIPT, **PATIENT)
    headgate.cli("online-deployment", "create", "-f", file, "--all-traffic")
    return headgate.target(name)


@contextmanager
def connected(target: Target, receive_bytes: int = 0) -> Iterator[http.client.HTTPConnection]:
    raw = socket.socket()
    if receive_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.connect((target.host, target.port))
    connection = http.client.HTTPConnection(target.host, target.port, timeout=120)
    connection.sock = (target.tls or ssl.create_default_context()).wrap_socket(
        raw, server_hostname=target.host
    )
    with closing(connection):
        yield connection


def ask(
    target: Target, connection: http.client.HTTPConnection, body: bytes = b"", query: str = ""
) -> http.client.HTTPResponse:
    connection.request("POST", target.path + query, body, {"Authorization": f"Bearer {target.key}"})
    return connection.getresponse()


def router_memory(headgate: Headgate) -> int:
    """The most that the router has occupied so far, in bytes."""
    pid = next(p.pid for p in headgate.processes().values() if p.command.endswith("run router"))
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def test_ninety_megabytes_both_ways(headgate: Headgate, served: Target) -> None:
    exchange_ninety_megabytes(headgate, served)


def exchange_ninety_megabytes(headgate: Headgate, served: Target) -> None:
    """A request and an answer arrive whole, and the router holds neither."""
    before = router_memory(headgate)
    body = hashlib.sha256(b"seed").digest() * (90 * MEBIBYTE // 32)
    with connected(served) as connection:
        started = time.monotonic()
        answer = ask(served, connection, body)
        assert answer.read() == f'"{hashlib.sha256(body).hexdigest()}"'.encode()
        sent_s = time.monotonic() - started
        started = time.monotonic()
        answer = ask(served, connection, b"", f"?make={90 * MEBIBYTE}&how=whole")
        assert answer.headers["Content-Length"] == str(90 * MEBIBYTE + 2)
        assert answer.read() == b'"' + b"x" * 90 * MEBIBYTE + b'"'
        received_s = time.monotonic() - started
    grown = router_memory(headgate) - before
    print(f"request {sent_s:.2f} s, answer {received_s:.2f} s, router +{grown / MEBIBYTE:.0f} MiB")
    assert grown < 24 * MEBIBYTE


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_gigabyte_to_a_slow_client_takes_no_memory(headgate: Headgate, served: Target) -> None:
    """About 10 MB/s, for a minute and a half."""
    before = router_memory(headgate)
    with connected(served, receive_bytes=65_536) as slow:
        answer = ask(served, slow, b"", f"?make={1024 * MEBIBYTE}")
        received, started = 0, time.monotonic()
        while part := answer.read1(65_536):
            received += len(part)
            time.sleep(max(0.0, received / (10 * MEBIBYTE) - (time.monotonic() - started)))
    assert received == 1024 * MEBIBYTE
    elapsed_s = time.monotonic() - started
    grown = router_memory(headgate) - before
    print(f"{elapsed_s:.0f} s, router +{grown / MEBIBYTE:.1f} MiB")
    assert grown < 16 * MEBIBYTE
