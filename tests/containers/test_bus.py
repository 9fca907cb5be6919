"""The bus itself in a container, as an operator may run it."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import docker
import nats
import pytest

from headgate.runtime import natsd

TAG = "headgate-test-nats:1"


@pytest.fixture(scope="module")
def image(engine: docker.DockerClient) -> str:
    """An image of nothing but the server that Headgate brings along."""
    program = natsd.program_path()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(program.resolve(), "nats-server")
        archive.addfile(_folder("tmp"))
    engine.api.import_image_from_data(
        buffer.getvalue(),
        repository=TAG.partition(":")[0],
        tag=TAG.partition(":")[2],
        changes=['ENTRYPOINT ["/nats-server"]'],
    )
    return TAG


@pytest.fixture
def url(image: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from testcontainers.community.nats import NatsContainer
    from testcontainers.core.config import testcontainers_config

    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # its image is not here
    with NatsContainer(image, jetstream=True) as container:
        yield container.nats_uri()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within testcontainers itself
async def test_the_server_of_the_wheel_serves_from_a_container(url: str) -> None:
    client = await nats.connect(url)
    try:
        info = await client.jetstream().account_info()
        assert info.api.level is not None
        assert info.api.level >= natsd.API_LEVEL_MIN
        heard = await client.subscribe("hello")
        await client.publish("hello", b"there")
        assert (await heard.next_msg(timeout=10)).data == b"there"
    finally:
        await client.close()


def _folder(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    entry.mode = 0o1777
    return entry
