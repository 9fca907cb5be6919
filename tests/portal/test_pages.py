"""Every page: usable with a keyboard and a screen reader, on a phone, in the dark."""

from __future__ import annotations

import asyncio
import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, expect

from acceptance.load import Load
from acceptance.system import Headgate
from portal.conftest import NAME, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TABS = (
    "Deployments",
    "Charts",
    "Mirror",
    "Autoscale",
    "Test",
    "Keys",
    "Logs",
    "Events",
    "Costs",
    "Settings",
)
MORE_TABS = {
    f"/studio/batch/{NAME}-b": ("Deployments", "New job", "Settings"),
    "/studio/operations": ("Instances", "Events", "Audit", "Quotas", "Service levels", "Alerts"),
}
PAGES = {
    "endpoints": "/studio/",
    "deploy": f"/studio/endpoints/{NAME}/deploy",
    "deployment": f"/studio/endpoints/{NAME}/deployments/blue",
    "batch": "/studio/batch",
    "batch-endpoint": f"/studio/batch/{NAME}-b",
    "batch-deploy": f"/studio/batch/{NAME}-b/deploy",
    "job": f"/studio/jobs/{NAME}",
    "costs": "/studio/costs",
    "operations": "/studio/operations",
}
# Where a dialog is opened: page, tab, and the button that does it.
DIALOGS = (
    ("/studio/", "", "New endpoint"),
    ("/studio/batch", "", "New batch endpoint"),
    ("/studio/costs", "", "New budget"),
    ("/studio/costs", "", "Change looked-at"),
    (f"/studio/endpoints/{NAME}", "Autoscale", "Add a weekly profile"),
    ("/studio/operations", "Quotas", "New quota"),
    ("/studio/operations", "Quotas", "Change looked-at"),
    ("/studio/operations", "Service levels", f"Change {NAME}"),
    ("/studio/operations", "Alerts", "New alert rule"),
    ("/studio/operations", "Alerts", "Deliveries looked-at"),
    (f"/studio/endpoints/{NAME}", "Settings", "Change settings"),
    (f"/studio/endpoints/{NAME}", "Settings", "Delete endpoint"),
)
# Rules that the page library breaks in its own components, which we cannot mend from here.
LIBRARY = {
    "scrollable-region-focusable": ".cm-scroller, .q-table__middle",
    "nested-interactive": ".q-slider, .q-uploader",
}
# axe takes the backdrop for what is behind a dialog's text, but it is behind the card; and text
# that is half faded in has no contrast.
WITHOUT_EFFECTS = (
    ".q-dialog__backdrop { display: none !important } "
    "* { transition: none !important; animation: none !important }"
)
SERIOUS = ("serious", "critical")


async def complaints(page: Page, part: str = "html") -> list[str]:
    """What axe finds, without what its own library's widgets do."""
    if not await page.evaluate("() => 'axe' in window"):
        source = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
        await page.evaluate(source)
    found: dict[str, Any] = await page.evaluate("(part) => axe.run(part)", part)
    told = []
    for rule in found["violations"]:
        if rule["impact"] not in SERIOUS:
            continue
        for node in rule["nodes"]:
            excused = LIBRARY.get(rule["id"])
            holder = page.locator(node["target"][0])
            if excused and await holder.evaluate("(e, place) => !!e.closest(place)", excused):
                continue
            told.append(f"{rule['id']}: {rule['help']}: {node['html'][:200]}")
    return told


async def keep(page: Page, name: str) -> None:
    """A picture for people, where they have asked for one: SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        await asyncio.to_thread(Path(folder).mkdir, parents=True, exist_ok=True)
        await page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


@pytest.mark.usefixtures("served", "worked")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_pages_are_accessible(visitor: Visitor, dark: bool) -> None:
    page = visitor.page
    await page.emulate_media(color_scheme="dark" if dark else "light")
    told: dict[str, list[str]] = {}
    look = "dark" if dark else "light"
    for name, path in {**PAGES, "sign-in": "/studio/sign-in"}.items():
        await visitor.open(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.wait_for_timeout(600)  # pictures of half-drawn pages tell nothing
        await keep(page, f"{name}-{look}")
        told[name] = await complaints(page)
    await visitor.open(f"/studio/endpoints/{NAME}")
    for tab in TABS:
        await page.get_by_role("tab", name=tab).click()
        await page.wait_for_timeout(600)
        await keep(page, f"endpoint-{tab.lower()}-{look}")
        told[tab] = await complaints(page)
    for path, tabs in MORE_TABS.items():
        await visitor.open(path)
        for tab in tabs:
            await page.get_by_role("tab", name=tab).click()
            await page.wait_for_timeout(400)
            name = f"{path.split('/')[2]}-{tab.lower().replace(' ', '-')}"
            await keep(page, f"{name}-{look}")
            told[name] = await complaints(page)
    shown = [f"{name}: {one}" for name, found in told.items() for one in found]
    assert not shown, "\n".join(shown)


@pytest.mark.usefixtures("served")
async def test_dialogs_are_accessible_and_fit_a_phone(visitor: Visitor, studio: Headgate) -> None:
    page = visitor.page
    things = (
        ("quota", "set", "remove", ("--kind", "endpoints", "--limit", "50")),
        ("alert", "set", "remove", ("--on", "job-failed", "--webhook", "https://hooks.example.com/x")),
        ("budget", "create", "delete", ("--amount", "50")),
    )  # fmt: skip
    for kind, make, _, what in things:
        await asyncio.to_thread(studio.cli, kind, make, "-n", "looked-at", *what)
    told: list[str] = []
    for path, tab, button in DIALOGS:
        await page.set_viewport_size({"width": 1280, "height": 800})
        await visitor.open(path)
        if tab:
            await page.get_by_role("tab", name=tab, exact=True).click()
        await page.get_by_role("button", name=button, exact=True).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.add_style_tag(content=WITHOUT_EFFECTS)
        for look in ("light", "dark"):
            await page.emulate_media(color_scheme=look)  # type: ignore[arg-type]
            await page.wait_for_timeout(300)
            await keep(page, f"dialog-{button.lower().replace(' ', '-')}-{look}")
            told += [f"{button}, {look}: {one}" for one in await complaints(page, ".q-dialog")]
        await page.set_viewport_size({"width": 390, "height": 780})
        box = await page.get_by_role("dialog").locator(".q-card").bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390, button
        await keep(page, f"dialog-{button.lower().replace(' ', '-')}-phone")
    for kind, _, remove, _ in things:
        await asyncio.to_thread(studio.cli, kind, remove, "-n", "looked-at", "--yes")
    assert not told, "\n".join(told)


IS_IN_DIALOG = "document.activeElement.closest('[role=dialog]') !== null"
FOCUSED = """() => {
  const {ariaLabel, innerText} = document.activeElement;
  return (ariaLabel || innerText || "").split("\\n").at(-1).trim();
}"""
# Whether what has the focus can be told from what has not: by a frame, or as the library does it.
IS_MARKED = """() => {
  const focused = document.activeElement;
  const style = getComputedStyle(focused.closest(".cm-editor") ?? focused);
  if (style.boxShadow.includes("0px 0px 0px 3px")) return true;
  return focused.closest(".q-field--focused, .q-slider--focus, .q-tab") !== null;
}"""


@pytest.mark.usefixtures("served")
async def test_dialogs_keep_the_focus_and_give_it_back(visitor: Visitor) -> None:
    page = visitor.page
    for path, tab, button in DIALOGS:
        if "looked-at" in button:
            continue
        await visitor.open(path)
        if tab:
            await page.get_by_role("tab", name=tab, exact=True).click()
        opener = page.get_by_role("button", name=button, exact=True)
        await opener.focus()
        await page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        await page.wait_for_function(IS_IN_DIALOG)
        stops = set()
        for _ in range(16):
            await page.keyboard.press("Tab")
            # Between the last and the first is what the browser itself has around the page.
            await page.wait_for_function(
                f"{IS_IN_DIALOG} || document.activeElement === document.body"
            )
            stops.add(await page.evaluate(FOCUSED))
        assert "Cancel" in stops, f"{button}: {stops}"
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(opener).to_be_focused()


@pytest.mark.usefixtures("served", "worked")
async def test_every_stop_of_the_keyboard_can_be_seen(visitor: Visitor) -> None:
    page = visitor.page
    for path in {**PAGES, "endpoint": f"/studio/endpoints/{NAME}"}.values():
        await visitor.open(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.wait_for_timeout(400)
        await page.keyboard.press("Tab")
        assert await page.evaluate(FOCUSED) == "Skip to the content", path
        for stop in range(20):
            await page.keyboard.press("Tab")
            if await page.evaluate("document.activeElement === document.body"):
                break  # after the last one
            try:
                await page.wait_for_function(IS_MARKED, timeout=2_000)
            except PlaywrightError:
                stopped = await page.evaluate("document.activeElement.outerHTML")
                pytest.fail(f"{path}: stop {stop} cannot be seen: {stopped[:300]}")


@pytest.mark.usefixtures("served")
async def test_a_link_in_a_table_keeps_the_focus_while_its_figures_change(
    visitor: Visitor, load: Load
) -> None:
    page = visitor.page
    await visitor.open("/studio/")
    link = page.get_by_role("link", name=NAME, exact=True)
    await link.focus()
    async with load.running():
        seen = set()
        async with asyncio.timeout(30):
            while len(seen) < 3:
                seen.add(await page.get_by_role("row").filter(has=link).inner_text())
                await asyncio.sleep(0.1)
    await expect(link).to_be_focused()


@pytest.mark.usefixtures("served")
async def test_an_editor_is_left_by_escape_and_tab(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open(PAGES["deploy"])
    editor = page.get_by_role("textbox", name="Scoring script; Escape, then Tab leaves it")
    await editor.focus()
    await page.keyboard.press("Tab")
    await expect(editor).to_be_focused()
    await page.keyboard.press("Escape")
    await page.keyboard.press("Tab")
    await expect(editor).not_to_be_focused()


@pytest.mark.usefixtures("served", "worked")
async def test_pages_fit_a_phone(visitor: Visitor) -> None:
    page = visitor.page
    await page.set_viewport_size({"width": 390, "height": 780})
    for name, path in {**PAGES, "endpoint": f"/studio/endpoints/{NAME}"}.items():
        await visitor.open(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await page.wait_for_timeout(600)
        await keep(page, f"{name}-phone")
        width = await page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, f"{name} is {width} px wide"
    for tab in ("Instances", "Events", "Quotas"):
        await visitor.open("/studio/operations")
        await page.get_by_role("tab", name=tab, exact=True).click()
        await page.wait_for_timeout(600)
        await keep(page, f"operations-{tab.lower()}-phone")


@pytest.mark.usefixtures("served")
async def test_what_is_not_there_is_said_in_its_place(visitor: Visitor) -> None:
    page, nothing = visitor.page, "no-such-thing"
    for path in (
        f"/studio/endpoints/{nothing}", f"/studio/endpoints/{NAME}/deployments/{nothing}",
        f"/studio/endpoints/{nothing}/deploy", f"/studio/batch/{nothing}",
        f"/studio/batch/{nothing}/deploy", f"/studio/jobs/{nothing}",
    ):  # fmt: skip
        await visitor.open(path)
        await expect(page.get_by_role("alert")).to_contain_text(f"'{nothing}'")
        await expect(page.get_by_role("navigation")).to_be_visible()
    answer = await page.request.get(f"{visitor.base}/studio/{nothing}")
    assert answer.status == 404 and "There is no such page" in await answer.text()
