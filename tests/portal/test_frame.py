"""What all pages share, without a browser."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from functools import partial

import nicegui.core
import pytest
from nicegui import Client, ui

from headgate.portal import attention
from headgate.portal.pages.frame import tabbed


def test_what_is_in_a_tab_is_drawn_when_it_is_opened_first_and_never_again() -> None:
    drawn: list[str] = []
    client = Client(ui.page("/"))
    with client:
        tabbed({title: partial(drawn.append, title) for title in "abc"}, first="b")
        tabs = next(each for each in client.elements.values() if isinstance(each, ui.tabs))
        assert drawn == ["b"]
        for title in "aba":
            tabs.set_value(title)
        assert drawn == ["b", "a"]
    client.delete()


async def test_a_page_is_read_as_long_as_its_browser_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nicegui.core, "loop", asyncio.get_running_loop())
    client, now = Client(ui.page("/")), time.time()
    assert not attention.is_read(client)  # nobody has come
    client.tab_id = "tab"
    assert attention.is_read(client)
    history = client.outbox.message_history
    history.extend((number, now - age_s, ("", "", {})) for number, age_s in ((3, 60.0), (4, 0.0)))
    assert not attention.is_read(client)
    client.outbox.prune_history(4)  # the first is read
    assert attention.is_read(client)
    history.appendleft((3, now - 60.0, ("", "", {})))
    for told, is_read in (("", False), ("next_message_id=x", False), ("next_message_id=4", True)):
        client.environ = {"QUERY_STRING": told}
        attention.take_back(client)
        assert attention.is_read(client) is is_read
    client.tab_id = None
    assert not attention.is_read(client)
    client.delete()


def test_the_studios_process_loads_nothing_of_the_bus() -> None:
    """It has no part in it, and a quarter of its memory would be libraries that it never calls."""
    names = {"faststream", "nats", "cryptography", "sqlalchemy"}
    code = (
        "import sys, headgate.cli.app, headgate.assembly, headgate.portal.app; "
        f"print(*({names!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
