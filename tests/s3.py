"""A real S3 server on this machine."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headgate.runtime import ports

KEY, SECRET = "key-of-tests", "secret-of-tests"
REGION = "us-east-1"
_PARTS = ("master", "volume", "filer", "s3")
_PORTS = ("port", "port.grpc")


@dataclass(frozen=True)
class S3:
    """Where it is. A bucket is made by the first object that is put into it."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What a process that opens ``s3://`` URLs by its environment needs."""
        return {
            "AWS_ENDPOINT": f"http://{self.endpoint}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }


@contextmanager
def serving() -> Iterator[S3]:
    """A server with empty shelves; it takes a while until it answers."""
    folder = Path(tempfile.mkdtemp(prefix="hg-s3-"))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    taken: list[int] = []
    flags = []
    for part in _PARTS:
        for setting in _PORTS:
            taken.append(ports.choose("127.0.0.1", 0, setting=f"{part}.{setting}", avoid=taken))
            flags.append(f"-{part}.{setting}={taken[-1]}")
    command = [
        str(Path(sys.executable).parent / "weed"),
        "server",
        f"-dir={folder}/data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=128",
        "-volume.max=100",
        "-filer",
        f"-filer.localSocket={folder}/filer.sock",
        "-s3",
        f"-s3.config={folder}/s3.json",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *flags,
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            yield S3(taken[len(_PORTS) * _PARTS.index("s3")])
        finally:
            server.kill()  # asked politely, it takes half a minute
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)
