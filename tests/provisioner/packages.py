"""A package index on this machine, whose packages the test publishes."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Index:
    """Folders of wheels, listed as an index lists them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def publish(self, name: str, version: str, code: str) -> None:
        """A package of one module, which is importable by the package's name."""
        folder = self.place(name)
        folder.mkdir(parents=True, exist_ok=True)
        about = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": code,
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in {**files, f"{about}/RECORD": record}.items():
                wheel.writestr(path, text)

    def place(self, name: str) -> Path:
        """The folder of a package's wheels."""
        return self.folder / name.replace("_", "-")

    def conda_file(self, *requirements: str) -> str:
        """A conda file whose packages come from here alone."""
        lines = [f"--index-url {self.url}", *requirements]
        listed = "".join(f"    - {line}\n" for line in lines)
        return f"dependencies:\n  - pip:\n{listed}"


@contextlib.contextmanager
def index(folder: Path) -> Iterator[Index]:
    """An index that serves a folder while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Index(folder, f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
