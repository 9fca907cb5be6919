"""What each type of datastore has, needs and keeps."""

from __future__ import annotations

from typing import Any

import pytest

from headgate_contracts import storage
from headgate_contracts.errors import ErrorCode
from headgate_contracts.storage import DatastoreCredentials, DatastoreSpec
from registry.harness import World, refused
from registry.test_things import SECRET, a_datastore, put_datastore

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY_FILE = '{"client_email": "a", "private_key": "b", "private_key_id": "c"}'
GCS = {"type": "gcs", "account_name": ""}
ACCOUNT = DatastoreCredentials(type="service_account")
NONE = DatastoreCredentials()


@pytest.mark.parametrize(
    ("change", "secret", "word"),
    [
        ({**GCS, "credentials": ACCOUNT}, "no JSON", "private_key_id"),
        ({**GCS, "credentials": ACCOUNT}, '{"client_email": "a", "private_key": 3}', "Google"),
        ({**GCS, "credentials": ACCOUNT}, "", "need their secret"),
        ({"account_name": ""}, SECRET, "needs account_name"),
        ({**GCS, "region": "eu", "credentials": NONE}, "", "has no region"),
        ({**GCS}, SECRET, "account_key is no kind"),
        ({"type": "http", "credentials": NONE}, "", "has no account_name"),
    ],
)
async def test_each_type_has_what_it_needs(
    world: World, change: dict[str, Any], secret: str, word: str
) -> None:
    given = put_datastore(world, a_datastore(**change), secret)
    await refused(ErrorCode.BAD_ARGUMENT, given, word)


async def test_buckets_of_google_and_web_servers_are_kept(world: World) -> None:
    made = await put_datastore(world, a_datastore(**GCS, credentials=ACCOUNT), KEY_FILE)
    assert made.created and "private_key" not in made.model_dump_json()
    ask = storage.GetDatastoreSecret(workspace=world.workspace, name="mine")
    assert (await world.ask(ask)).secret == KEY_FILE
    web = DatastoreSpec(name="site", type="http", container_name="data.example.org/open")
    assert (await put_datastore(world, web)).datastore.spec == web
