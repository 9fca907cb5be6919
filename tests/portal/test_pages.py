"""Every page: usable with a keyboard and a screen reader, on a phone, in the dark."""

from __future__ import annotations

import asyncio
import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

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
    "Settings",
)
MORE_TABS = {
    f"/studio/batch/{NAME}-b": ("Deployments", "New job", "Settings"),
    "/studio/operations": ("Instances", "Events", "Audit", "Quotas", "Service levels"),
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
# Rules that the page library breaks in its own components, which we cannot mend from here.
LIBRARY = {
    "scrollable-region-focusable": ".cm-scroller, .q-table__middle",
    "nested-interactive": ".q-slider, .q-uploader",
}
SERIOUS = ("serious", "critical")


async def complaints(page: Page) -> list[str]:
    """What axe finds, without what its own library's widgets do."""
    if not await page.evaluate("() => 'axe' in window"):
        source = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
        await page.evaluate(source)
    found: dict[str, Any] = await page.evaluate("() => axe.run(document)")
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
    for name, path in PAGES.items():
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
        assert width <= 400, f"{name} is {width} px wide"
