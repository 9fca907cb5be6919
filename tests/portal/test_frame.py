"""What all pages share, without a browser."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from nicegui import Client, ui

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


def test_the_studios_process_loads_nothing_of_the_bus() -> None:
    """It has no part in it, and a quarter of its memory would be libraries that it never calls."""
    names = {"faststream", "nats", "cryptography", "sqlalchemy"}
    code = (
        "import sys, headgate.cli.app, headgate.assembly, headgate.portal.app; "
        f"print(*({names!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
