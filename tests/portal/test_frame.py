"""What all pages share, without a browser."""

from __future__ import annotations

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
