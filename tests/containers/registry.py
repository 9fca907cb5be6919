"""A registry of images on this machine, whose images the test makes."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from containers.engine import IMAGE
from headgate.runtime import ports

PROGRAM = "docker-registry"
START_TIMEOUT_S = 20.0
_SETTINGS = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


class Registry:
    """``name`` is where images of it are pulled from."""

    def __init__(self, engine: docker.DockerClient, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._port = ports.choose("127.0.0.1", 0, setting="port")
        self._process: subprocess.Popen[bytes] | None = None
        self.name = f"127.0.0.1:{self._port}/base"

    def start(self) -> None:
        settings = self._folder / "settings.yml"
        settings.write_text(_SETTINGS.format(folder=self._folder / "images", port=self._port))
        with (self._folder / "log").open("ab") as log:
            command = [PROGRAM, "serve", str(settings)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + START_TIMEOUT_S
        while ports.is_free("127.0.0.1", self._port):
            assert time.monotonic() < until, "the registry does not start"
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def publish(self, text: str) -> str:
        """An image whose file ``/said`` holds a text, as the newest; its id.

        This machine does not get to know that its name means it now.
        """
        before = self._known()
        recipe = io.BytesIO(f"FROM {IMAGE}\nRUN echo {text} > /said\n".encode())
        made, _ = self._engine.images.build(fileobj=recipe, tag=f"{self.name}:1", rm=True)
        self._engine.images.push(self.name, tag="1")
        if before:
            self._engine.images.get(before).tag(self.name, "1")
        return str(made.id)

    def _known(self) -> str:
        with contextlib.suppress(docker.errors.ImageNotFound):
            return str(self._engine.images.get(f"{self.name}:1").id)
        return ""


@contextlib.contextmanager
def registry(engine: docker.DockerClient) -> Iterator[Registry]:
    """A registry that serves while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="hg-registry-"))
    found = Registry(engine, folder)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(folder)
