"""Gateways that answer wrongly: every one ends with a message and a code, never a traceback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.terminal import Ran, headgate

Ask = Callable[[bytes], Ran]


class Scripted:
    """A server that reads one request per connection and answers each with the same bytes."""

    def __init__(self) -> None:
        self.answer = b""
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                if not connection.recv(65_536):
                    return
                self.requests += 1
                connection.sendall(self.answer)

    def close(self) -> None:
        with socket.create_connection(self._socket.getsockname()):
            pass  # wakes accept(); an empty request ends the loop
        self._thread.join()
        self._socket.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


@pytest.fixture
def ask(server: Scripted, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """``online-endpoint list`` against a gateway that answers with these bytes."""
    monkeypatch.setenv("HEADGATE_TOKEN", "secret-token")

    def run(answer: bytes) -> Ran:
        server.answer = answer
        ran = headgate("online-endpoint", "list", "--url", server.url, "--data", data_dir)
        assert ran.out == ""
        assert "Traceback" not in ran.err and "secret-token" not in ran.err
        return ran

    return run


def response(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def refused(status: str, code: str, message: str) -> bytes:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return response(status, body, "Content-Type: application/json")


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (response("500 Internal Server Error", b"<html>oops</html>"), 1, "answered 500"),
        (response("200 OK", b"<html>hello</html>"), 1, "is not JSON"),
        (response("200 OK", b'{"value": [', length=900), 1, "broke off"),
        (response("200 OK", b"[]"), 1, "is not what"),
        (response("200 OK", b'{"value": [{"name": "x"}, {}]}'), 1, "is not what"),
        (response("200 OK"), 1, "is not what"),
        (response("302 Found", b"", "Location: https://elsewhere.example/"), 1, "answered 302"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 1, "127.0.0.1"),
        (b"", 1, "broke off"),
        (refused("401 Unauthorized", "Unauthorized", "wrong token"), 3, "wrong token"),
        (refused("403 Forbidden", "Forbidden", "not yours"), 3, "not yours"),
        (refused("409 Conflict", "ResourceConflict", "busy with it"), 5, "busy with it"),
        (refused("418 Teapot", "SomethingNew", "a code of the future"), 1, "a code of the future"),
        (refused("404 Not Found", "SomethingNew", "gone"), 4, "gone"),
        (response("504 Gateway Timeout"), 6, "answered 504"),
    ],
)
def test_a_wrong_answer_is_a_message_with_a_code(
    ask: Ask, answer: bytes, code: int, says: str
) -> None:
    ran = ask(answer)
    assert ran.code == code
    assert says in ran.err


def test_a_busy_gateway_is_asked_again_before_giving_up(ask: Ask, server: Scripted) -> None:
    ran = ask(refused("503 Service Unavailable", "ServiceUnavailable", "starting"))
    assert ran.code == 1
    assert server.requests > 1


def test_a_change_is_never_sent_twice(
    server: Scripted, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_TOKEN", "secret-token")
    server.answer = refused("503 Service Unavailable", "ServiceUnavailable", "starting")
    ran = headgate(
        "online-endpoint", "create", "-n", "abc", "--url", server.url, "--data", data_dir
    )
    assert ran.code == 1
    assert server.requests == 1


def test_a_page_link_to_another_machine_is_not_followed(ask: Ask) -> None:
    """The token would go there."""
    body = json.dumps({"value": [], "nextLink": "https://elsewhere.example/steal"}).encode()
    ran = ask(response("200 OK", body))
    assert ran.code == 1
    assert "another address" in ran.err
