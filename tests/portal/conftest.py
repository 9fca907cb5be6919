"""A Headgate with its studio, and a real browser."""

from __future__ import annotations

import asyncio
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

from acceptance.load import Load
from acceptance.models import endpoint_file
from acceptance.system import EXAMPLES, Headgate

# What a browser would ask of the world by itself is switched off.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    # Else each new connection fails for its certificate, and is tried again, so many times at most.
    "--ignore-certificate-errors",
)  # fmt: skip
TIMEOUT_MS = 30_000
NAME = "pages"  # of what is there to be looked at: an endpoint, and a job of the endpoint NAME-b


@pytest.fixture(scope="session")
def studio() -> Iterator[Headgate]:
    """One Headgate with the studio for all tests of pages."""
    system = Headgate(Path(tempfile.mkdtemp(prefix="hg-studio-")), HEADGATE_STUDIO="true",
                      HEADGATE_ALERT_URLS="https://hooks.example.com/")  # fmt: skip
    try:
        system.start()
        yield system
    finally:
        system.discard()


@pytest.fixture(scope="session")
def served(studio: Headgate, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An endpoint with two deployments, one of which takes all traffic."""
    folder = tmp_path_factory.mktemp("pages")
    studio.cli("online-endpoint", "create", "-f", endpoint_file(folder, NAME))
    for colour in ("blue", "green"):
        studio.cli(
            "online-deployment", "create", "-f", EXAMPLES / "echo" / f"{colour}.yml",
            "--set", f"endpoint_name={NAME}", *(["--all-traffic"] if colour == "blue" else []),
        )  # fmt: skip


@pytest_asyncio.fixture
async def load(studio: Headgate, served: None) -> Load:
    """Clients of the endpoint, which begin when the test says so."""
    return Load(await asyncio.to_thread(studio.target, NAME), connections=2, pause_s=0.02)


@pytest.fixture(scope="session")
def worked(studio: Headgate, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A batch job over a few files, one of which cannot be read."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "code").mkdir()
    (folder / "code" / "batch.py").write_text(
        "def init(): pass\ndef run(mini_batch): return [int(open(p).read()) for p in mini_batch]\n"
    )
    (folder / "data").mkdir()
    for number in range(30):
        (folder / "data" / f"{number:02}.txt").write_text("bad" if number == 4 else str(number))
    (folder / "deployment.yml").write_text(
        f"name: all\nendpoint_name: {NAME}-b\ntype: model\nmodel: {{path: code}}\n"
        "environment: {conda_file: {dependencies: [python=3.11]}}\n"
        "code_configuration: {code: code, scoring_script: batch.py}\n"
        "settings: {mini_batch_size: 1, retry_settings: {max_retries: 0}}\n"
    )
    studio.cli("batch-endpoint", "create", "-n", f"{NAME}-b")
    studio.cli("batch-deployment", "create", "-f", folder / "deployment.yml", "--set-default")
    studio.cli("batch-endpoint", "invoke", "-n", f"{NAME}-b", "--input", folder / "data",
               "--job-name", NAME, "--stream")  # fmt: skip


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

    async def open(self, path: str, tab: str = "") -> None:
        await self.page.goto(f"{self.base}{path}")
        if tab:
            await self.page.get_by_role("tab", name=tab, exact=True).click()

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
            lambda said: (
                self.faults.append(f"{said.text} ({said.location.get('url')})")
                if said.type == "error"
                else None
            ),
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
    await context.close()
    assert visitor.faults == []
