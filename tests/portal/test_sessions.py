"""The end of a session, seen from its open pages."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from playwright.async_api import Browser, Page, expect

from acceptance.system import Headgate, processes_of
from portal.conftest import TIMEOUT_MS, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def signed_in(browser: Browser, studio: Headgate) -> Page:
    """A page in a browser of its own."""
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    await page.goto((await asyncio.to_thread(studio.cli, "studio")).strip())
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


async def test_all_sessions_of_somebody_end_with_their_open_pages(
    studio: Headgate, browser: Browser
) -> None:
    here, there = [await signed_in(browser, studio) for _ in range(2)]
    await here.get_by_role("button", name="End all sessions").click()
    for page in (here, there):
        await expect(page.get_by_label("Token")).to_be_visible(timeout=TIMEOUT_MS)
        await page.context.close()


async def test_a_page_asks_to_sign_in_after_the_studio_has_restarted(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    (portal,) = [pid for pid, each in processes_of(studio.data).items()
                 if "run portal" in each.command]  # fmt: skip
    os.kill(portal, signal.SIGKILL)
    await expect(page.get_by_label("Token")).to_be_visible(timeout=60_000)
    visitor.faults.clear()  # the browser says that it could not connect
