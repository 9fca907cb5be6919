"""One process of a node: the script loaded once, then one mini-batch after the other."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from headgate_worker import batch_rows, failure, memory, script
from headgate_worker.batch_wire import Channel
from headgate_worker.core import ERROR_MESSAGE_CHARS_MAX
from headgate_worker.settings import Settings

if TYPE_CHECKING:
    from headgate_worker.batch import Node

EXIT_SCRIPT_FAILED = 3
ROWS_INLINE_BYTES_MAX = 16 * 1024
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}

Run = Callable[[list[str]], Any]


def main(number: int, node: Node, chosen: Settings) -> int:
    """Serves the agent until it has gone; the exit status."""
    output = os.path.join(node.folder, "output", f"process{number}")
    shutil.rmtree(output, ignore_errors=True)  # of a process that was killed
    os.makedirs(output)
    os.environ["AZUREML_BI_OUTPUT_PATH"] = output
    _write_logs(node, number)
    channel = Channel(node.socket)
    channel.send({"role": "process", "number": number, "pid": os.getpid()})
    try:
        run, root = _loaded(node, chosen)
    except script.ScriptError as error:
        channel.send({"op": "failed", "code": error.code, "message": error.message})
        return EXIT_SCRIPT_FAILED
    channel.send({"op": "ready"})
    return _Process(number, node, channel, run, root, output).serve()


def _loaded(node: Node, chosen: Settings) -> tuple[Run, str]:
    """The run() of the script, or of a model that brings its own. Raises ScriptError."""
    sys.argv = [chosen.entry_script or "main.py", "--logging_level", node.logging_level]
    if chosen.mlflow_folder and not chosen.entry_script:
        from headgate_worker import batch_mlflow

        return batch_mlflow.load(chosen), chosen.app_root
    found = script.load(chosen)
    loop = asyncio.new_event_loop() if found.is_async else None
    script.initialise(found, loop)
    (parameter, *_) = found.parameters

    def run(mini_batch: list[str]) -> Any:
        result = found.run(**{parameter.name: mini_batch})
        if loop is not None and inspect.isawaitable(result):
            return loop.run_until_complete(result)
        return result

    return run, found.root


def _write_logs(node: Node, number: int) -> None:
    """Azure's layout: what the script prints and logs, by node and process."""
    logs = os.path.join(node.folder, "logs", "user")
    for descriptor, kind in ((1, "stdout"), (2, "stderr")):
        folder = os.path.join(logs, kind, node.id)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"process{number}.{kind}.txt")
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    # Of last resort, so that a script's logging.basicConfig() still has its effect.
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.lastResort = handler
    logging.getLogger().setLevel(_LEVELS.get(node.logging_level, logging.INFO))


class _Process:
    def __init__(
        self, number: int, node: Node, channel: Channel, run: Run, root: str, output: str
    ) -> None:
        self._channel = channel
        self._run = run
        self._root = root
        self._output = output
        self._node = node
        folder = os.path.join(node.folder, "logs", "sys", "node", node.id)
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, f"process{number}.txt")
        self._journal = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 (for life)

    def serve(self) -> int:
        while True:
            try:
                said = self._channel.receive()
                if said is None:
                    return 0
                answer, body = self._answer(said)
                self._channel.send(answer, body)
            except OSError:
                return 0

    def _answer(self, said: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        files = [str(path) for path in said["files"]]
        begun, begun_s, cpu_s = datetime.now(timezone.utc), time.perf_counter(), time.process_time()
        body, answer = b"", {"op": "done", "key": said["key"]}
        try:
            returned, rows = batch_rows.taken(self._run(files), keeps_rows=self._node.keeps_rows)
            answer |= {"returned": returned, "files": self._moved_away(said["key"])}
            if len(rows) > ROWS_INLINE_BYTES_MAX:
                answer["rows_file"] = self._written(said["key"], rows)
            else:
                body = rows
        except BaseException as error:
            body = b""
            answer |= {"op": "raised", "error": self._explained(error)}
            self._forget_output()
        run_s = time.perf_counter() - begun_s
        answer["run_ms"] = round(run_s * 1e3, 3)
        self._note(said, answer, begun, run_s, time.process_time() - cpu_s)
        return answer, body

    def _explained(self, error: BaseException) -> str:
        """The exception in words; the whole trace goes to the script's own log."""
        sys.stderr.write(failure.trace(error) + "\n")
        lacking = memory.explain(error)
        text = lacking if lacking is not None else failure.describe(error, self._root)
        return text[:ERROR_MESSAGE_CHARS_MAX]

    def _moved_away(self, key: str) -> list[str]:
        """What the script has written now belongs to this mini-batch: names of the files."""
        entries = os.listdir(self._output)
        if not entries:
            return []
        target = os.path.join(self._node.folder, "done", key)
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        for entry in entries:
            os.rename(os.path.join(self._output, entry), os.path.join(target, entry))
        names: list[str] = []
        for folder, _, files in os.walk(target):
            names += (os.path.relpath(os.path.join(folder, name), target) for name in files)
        return sorted(names)

    def _forget_output(self) -> None:
        for entry in os.listdir(self._output):
            path = os.path.join(self._output, entry)
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                os.unlink(path)

    def _written(self, key: str, rows: bytes) -> str:
        name = f"{key}.rows"
        folder = os.path.join(self._node.folder, "done")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(rows)
        return name

    def _note(
        self,
        said: dict[str, Any],
        answer: dict[str, Any],
        begun: datetime,
        run_s: float,
        cpu_s: float,
    ) -> None:
        total = int(said["items"])
        succeeded = min(total, int(answer.get("returned", 0)))
        at = begun.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        with suppress(OSError):
            self._journal.write(
                f"{at} mini-batch {said['key']} pid {os.getpid()} total {total} "
                f"succeeded {succeeded} failed {total - succeeded} "
                f"process_time {cpu_s:.3f} run_time {run_s:.3f}\n"
            )
