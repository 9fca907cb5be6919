"""A reader: sees no control that changes something, and changes nothing whatever the page sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from acceptance.system import Headgate
from portal.conftest import NAME, TIMEOUT_MS
from portal.test_pages import MORE_TABS, PAGES, TABS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# Everything that a reader may press, by its name; all of it only looks.
HARMLESS = {
    "Headgate", "Endpoints", "Batch", "Costs", "Operations", "Light or dark", "Sign out",
    "End all sessions", "Details", "Copy the scoring address", "Download", "Whole job", "Simulate",
    "Logs", "Clear", "Form", "YAML", "Next page", "Previous page", "First page", "Last page",
    "Headers", "Copy as curl, Python, command line",
}  # fmt: skip
PRESSABLE = """() => [...document.querySelectorAll("button, a.q-btn, [type=submit], [type=file]")]
  .filter((each) => each.checkVisibility() && !each.disabled && each.ariaDisabled !== "true")
  .map((each) => (each.ariaLabel || each.innerText || each.title || each.outerHTML.slice(0, 120))
    .split("\\n").at(-1).trim())"""
# What a hostile reader can do: every event of every element, shown or not.
EVERYTHING = """() => {
  let sent = 0;
  for (const [id, element] of Object.entries(mounted_app.elements)) {
    for (const event of element.events ?? []) {
      if (event.js_handler) continue;
      const said = {id: Number(id), client_id: window.clientId, listener_id: event.listener_id};
      window.socket.emit("event", {...said, args: [JSON.stringify(50)]});
      window.socket.emit("event", {...said, args: ["null"]});
      sent += 2;
    }
  }
  return sent;
}"""


@pytest_asyncio.fixture
async def reader(studio: Headgate, browser: Browser) -> AsyncIterator[Page]:
    """The page of somebody who may only read."""
    told = await asyncio.to_thread(
        studio.cli_json, "token", "create", "only-reads", "--role", "reader"
    )
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    await page.goto(f"{studio.running()['gateway']}/studio/")
    await page.get_by_label("Token").fill(told["token"])
    await page.get_by_role("button", name="Sign in").click()
    yield page
    await context.close()


async def visit(page: Page, base: str) -> AsyncIterator[str]:
    """Every page and tab, one after the other."""
    places = {path: MORE_TABS.get(path, ()) for path in PAGES.values()}
    for path, tabs in {**places, f"/studio/endpoints/{NAME}": TABS}.items():
        await page.goto(f"{base}{path}")
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.wait_for_timeout(400)
        yield path
        for tab in tabs:
            await page.get_by_role("tab", name=tab, exact=True).click()
            await page.wait_for_timeout(300)
            yield f"{path} {tab}"


@pytest.mark.usefixtures("served", "worked")
async def test_no_control_of_any_page_changes_anything(reader: Page, studio: Headgate) -> None:
    shown: dict[str, set[str]] = {}
    async for place in visit(reader, studio.running()["gateway"]):
        names = set(await reader.evaluate(PRESSABLE)) - HARMLESS
        sliders = await reader.locator("[role=slider]:not([aria-disabled=true])").count()
        if names or sliders:
            shown[place] = names | ({"a slider"} if sliders else set())
    assert shown == {}


@pytest.mark.usefixtures("served", "worked")
async def test_whatever_a_readers_page_sends_nothing_is_changed(
    reader: Page, studio: Headgate
) -> None:
    before = await asyncio.to_thread(state_of, studio)
    sent = 0
    async for _ in visit(reader, studio.running()["gateway"]):
        sent += await reader.evaluate(EVERYTHING)
        await reader.wait_for_timeout(200)
    assert sent > 200
    events = await asyncio.to_thread(
        studio.cli, "events", "tail", "--filter", "audit", "--since", "10m", "--no-follow",
        "-o", "json",
    )  # fmt: skip
    told = [json.loads(line)["data"] for line in events.splitlines() if line.startswith("{")]
    own = [each for each in told if each["by"] == "only-reads"]
    assert [each for each in own if each["status"] < 400] == []
    assert await asyncio.to_thread(state_of, studio) == before


def state_of(studio: Headgate) -> object:
    """What could have been changed."""
    return [
        studio.cli_json("online-endpoint", "show", "-n", NAME)["traffic"],
        [each["name"] for each in studio.cli_json("online-deployment", "list", "-e", NAME)],
        studio.cli_json("batch-endpoint", "show", "-n", f"{NAME}-b")["defaults"],
        len(studio.cli_json("online-endpoint", "list")),
    ]
