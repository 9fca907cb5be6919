"""A Headgate with its studio, and a real browser."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from acceptance.system import Headgate

# What a browser would ask of the world by itself is switched off.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
TIMEOUT_MS = 30_000


@pytest.fixture(scope="session")
def studio() -> Iterator[Headgate]:
    """One Headgate with the studio for all tests of pages."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-studio-")), HEADGATE_STUDIO="true")
    try:
        system.start()
        yield system
    finally:
        system.discard()


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no chromium here; Debian's package is the one that CI installs")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        await browser.close()


@dataclass
class Visitor:
    """A page, and everything that went wrong on it."""

    page: Page
    base: str
    faults: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        await self.page.goto(f"{self.base}{path}")

    def watch(self) -> None:
        """Note errors of the console, failures, and requests that leave this host."""

        def on_request(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != self.host:
                self.faults.append(f"asked {request.url}")

        self.page.on("request", on_request)
        self.page.on("pageerror", lambda error: self.faults.append(f"page error: {error}"))
        self.page.on(
            "console",
            lambda said: self.faults.append(said.text) if said.type == "error" else None,
        )

    @property
    def host(self) -> str:
        return urlsplit(self.base).netloc


@pytest_asyncio.fixture
async def visitor(studio: Headgate, browser: Browser) -> AsyncIterator[Visitor]:
    """Signed in by the link that the command line prints; a page without faults at the end."""
    link = studio.cli("studio").strip()
    context = await browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = await context.new_page()
    visitor = Visitor(page, studio.running()["gateway"])
    visitor.watch()
    await page.goto(link)
    yield visitor
    assert visitor.faults == []
    await context.close()
