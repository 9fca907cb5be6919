"""A debugger attaches to a local deployment and stops in its scoring script."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from local.test_local import Desk, desk

__all__ = ["desk"]
SCRIPT = """
    def init(): ...

    def run(raw_data):
        seen = "untouched"
        return {"seen": seen}
"""


class Debugger:
    """The few words of the debug adapter protocol that an editor begins with."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._kept: list[dict[str, Any]] = []

    def send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        said = {"seq": self._number, "type": "request", "command": command}
        body = json.dumps({**said, "arguments": arguments}).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return self._number

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        number = self.send(command, **arguments)
        answer = self._until(type="response", request_seq=number)
        assert answer["success"], answer
        return answer.get("body") or {}

    def event(self, name: str) -> dict[str, Any]:
        return self._until(type="event", event=name).get("body") or {}

    def _until(self, **wanted: Any) -> dict[str, Any]:
        def fits(message: dict[str, Any]) -> bool:
            return all(message.get(name) == value for name, value in wanted.items())

        for message in self._kept:
            if fits(message):
                self._kept.remove(message)
                return message
        while not fits(message := self._read()):
            self._kept.append(message)
        return message

    def _read(self) -> dict[str, Any]:
        size = 0
        while line := self._file.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        assert size, "the debugger has closed the connection"
        return json.loads(self._file.read(size))

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.mark.slow
def test_a_debugger_stops_at_a_line_and_changes_a_value(desk: Desk) -> None:
    desk.script(SCRIPT)
    created = desk.run("online-deployment", "create", "--local", "--debug", "-f", desk.file())
    assert created.returncode == 0, created.stderr
    shown = json.loads(created.stdout)
    launch = json.loads(created.stderr[created.stderr.index("{") :])
    assert launch["connect"] == {"host": "127.0.0.1", "port": shown["debug_port"]}
    assert launch["request"] == "attach"

    debugger = Debugger(shown["debug_port"])
    debugger.ask("initialize", adapterID="test", pathFormat="path")
    attached = debugger.send("attach", justMyCode=False)
    debugger.event("initialized")
    path = str(Path(shown["code"]) / "score.py")
    lines = Path(path).read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "return" in text)
    debugger.ask("setBreakpoints", source={"path": path}, breakpoints=[{"line": line}])
    debugger.ask("configurationDone")
    assert debugger._until(type="response", request_seq=attached)["success"]

    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(desk.ask({})))
    asking.start()
    stopped = debugger.event("stopped")
    assert stopped["reason"] == "breakpoint"
    trace = debugger.ask("stackTrace", threadId=stopped["threadId"])
    frame = trace["stackFrames"][0]
    assert (frame["name"], frame["line"]) == ("run", line)
    debugger.ask("evaluate", expression="seen = 'changed'", frameId=frame["id"], context="repl")
    debugger.ask("setBreakpoints", source={"path": path}, breakpoints=[])
    debugger.ask("continue", threadId=stopped["threadId"])
    asking.join(timeout=30)
    debugger.close()
    assert answers == [{"seen": "changed"}]
    assert desk.ask({}) == {"seen": "untouched"}
