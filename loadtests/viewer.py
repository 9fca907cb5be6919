"""``python -m loadtests.viewer``: what viewers of the studio cost, and how late pages are.

Many endpoints and deployments (without instances, so that the machine has room), one endpoint with
an instance under load, one browser that shows the list and then that endpoint, then five pages of
it; what is left of many pages that were opened and closed; and what browsers hold that vanish and
come again.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
from playwright.async_api import Page, async_playwright, expect

from headgate.azure.yaml_files import YamlFile
from headgate.client import Client, find_target
from headgate.client.assets import register_all
from loadtests import closed_loop
from loadtests.scenarios.viewers import Crowd, gathered
from loadtests.studio_viewers import VANISHES
from loadtests.system import ENDPOINT, System
from loadtests.workloads import SMALL

PER_ENDPOINT = 4
SCRIPT = "def init(): pass\ndef run(data): return data\n"
VIEWERS = 5
CYCLES = 30
FORGOTTEN_S = 15.0  # a closed page is kept for its browser to come back
VANISHING = Crowd("10 vanishing viewers", 10, VANISHES)  # and ten more each three seconds
VANISHING_S = 25.0
CPU_MAX_PERCENT = 10.0
LATE_MAX_S = 2.0
MEMORY_MAX_MB = 150.0
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")


async def fill(client: Client, deployments: int) -> None:
    """So many deployments without instances, four to an endpoint."""
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        (files / "code").mkdir()
        (files / "code" / "score.py").write_text(SCRIPT)
        for number in range(deployments):
            endpoint, file = f"many-{number // PER_ENDPOINT}", files / "d.yml"
            if number % PER_ENDPOINT == 0:
                await client.create_endpoint(YamlFile.of_text(
                    f"name: {endpoint}\n".encode(), files / "e.yml").endpoint())  # fmt: skip
            file.write_text(
                f"name: d{number % PER_ENDPOINT}00\nendpoint_name: {endpoint}\ninstance_count: 0\n"
                "code_configuration: {code: code, scoring_script: score.py}\n"
                "instance_type: Standard_DS3_v2\n"
            )
            spec = await register_all(client, YamlFile.open(file).deployment())
            await client.create_deployment(spec)


async def cost(studio: psutil.Process, seconds: float) -> float:
    """Per cent of a core, over a time."""
    before = sum(studio.cpu_times()[:2])
    await asyncio.sleep(seconds)
    return 100 * (sum(studio.cpu_times()[:2]) - before) / seconds


async def lateness(
    change: Callable[[], Awaitable[None]], seen: Callable[[], Awaitable[None]]
) -> float:
    """Seconds from a change's answer to its sight."""
    await change()
    begun = time.monotonic()
    await seen()
    return time.monotonic() - begun


async def show(page: Page, address: str) -> None:
    """An endpoint's page with its charts and its logs."""
    await page.goto(address)
    await expect(page.get_by_text("Requests/s").first).to_be_visible()
    for tab in ("Logs", "Charts"):
        await page.get_by_role("tab", name=tab).click()


async def measure(system: System, deployments: int, seconds: float, cycles: int) -> bool:
    """Whether all limits were kept."""
    system.deploy("blue", "small.py", concurrency=4)
    async with Client(find_target(system.data)) as client, async_playwright() as playwright:
        await fill(client, deployments)
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=list(FLAGS)
        )
        page = await (await browser.new_context()).new_page()
        await page.goto(system.cli("studio").strip())
        await expect(page.get_by_role("cell", name="many-0", exact=True)).to_be_visible()
        loading = asyncio.create_task(closed_loop.run(system.target(SMALL), 2, 4 * seconds + 30))
        studio = psutil.Process(*system.tree.pids("run portal"))
        costs = [await cost(studio, seconds)]
        tell("list of endpoints", costs[-1], studio)

        async def tag() -> None:
            found = await client.get_endpoint("many-0")
            traffic = {"traffic": {"d000": 100}}
            await client.update_endpoint(found.spec.model_copy(update=traffic), found.etag)

        row = page.get_by_role("row").filter(has_text="d000 100 %")
        late = await lateness(tag, lambda: expect(row.first).to_be_visible(timeout=20_000))
        sys.stdout.write(f"a change is on the page after {late:.1f} s\n")
        address = f"{page.url.rstrip('/')}/endpoints/{ENDPOINT}"
        await page.goto(address)
        await expect(page.get_by_text("Requests/s").first).to_be_visible()
        costs.append(await cost(studio, seconds))
        tell("one endpoint", costs[-1], studio)
        await show(page, address)
        costs.append(await cost(studio, seconds))
        tell("its charts", costs[-1], studio)
        pages = [await page.context.new_page() for _ in range(VIEWERS - 1)]
        for each in pages:
            await show(each, address)
        tell(f"{VIEWERS} viewers of them", await cost(studio, seconds), studio)
        memory_mb = studio.memory_info().rss / 1e6
        for each in pages:
            await each.close()
        await loading
        await page.goto("about:blank")
        await asyncio.sleep(FORGOTTEN_S)
        tell("nobody looks", await cost(studio, seconds), studio)
        for cycle in range(cycles):
            if cycle % (cycles // 3 or 1) == 0:
                tell(f"{cycle} pages later", 0.0, studio)
            opened = await page.context.new_page()
            await show(opened, address)
            await opened.close()
        await asyncio.sleep(FORGOTTEN_S)
        tell(f"{cycles} pages later", await cost(studio, seconds), studio)
        memory_mb = max(memory_mb, studio.memory_info().rss / 1e6)
        await browser.close()
        async with gathered(system, VANISHING):
            await asyncio.sleep(VANISHING_S)
            tell(VANISHING.name, await cost(studio, seconds), studio)
        memory_mb = max(memory_mb, studio.memory_info().rss / 1e6)
    return max(costs) <= CPU_MAX_PERCENT and late <= LATE_MAX_S and memory_mb <= MEMORY_MAX_MB


def tell(what: str, percent: float, studio: psutil.Process) -> None:
    memory_mb = studio.memory_info().rss / 1e6
    sys.stdout.write(f"{what:20} {percent:5.1f} % of a core, {memory_mb:.0f} MB\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="loadtests.viewer", description=__doc__)
    parser.add_argument("--deployments", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    chosen = parser.parse_args()
    with System.running() as system:
        kept = asyncio.run(measure(system, chosen.deployments, chosen.seconds, chosen.cycles))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
