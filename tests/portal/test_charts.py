"""Live charts: what the browser has of them, and that it goes on where it was."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from playwright.async_api import expect

from acceptance.load import Load
from acceptance.system import Headgate
from portal.conftest import NAME, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

STANDS_STILL_S = 40.0  # longer than anybody waits for a browser
# The moments of blue's requests, once there are more than so many.
POINTS = """(most) => {
  const place = document.querySelector("[aria-label^='Requests, per second']");
  const chart = place && getElement(Number(place.id.slice(1)))?.chart;
  const line = chart?.getOption().series.find((each) => each.name === "blue");
  return line && line.data.length > most && line.data.map(([at]) => at);
}"""


@pytest.mark.usefixtures("served")
async def test_charts_grow_and_are_whole_again_after_a_break(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    load = Load(await asyncio.to_thread(studio.target, NAME), connections=2, pause_s=0.02)
    await visitor.open(f"/studio/endpoints/{NAME}")
    await page.get_by_role("tab", name="Charts").click()
    async with load.running():
        first = await (await page.wait_for_function(POINTS, arg=2)).json_value()
        await page.evaluate("window.socket.io.engine.close()")  # as when the network breaks off
        later = await (await page.wait_for_function(POINTS, arg=len(first) + 4)).json_value()
    assert later[: len(first)] == first
    assert later == sorted(set(later))


@pytest.mark.soak
@pytest.mark.usefixtures("served")
async def test_a_browser_that_stood_still_is_cut_off_and_comes_back(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    load = Load(await asyncio.to_thread(studio.target, NAME), connections=2, pause_s=0.02)
    await visitor.open(f"/studio/endpoints/{NAME}")
    await page.get_by_role("tab", name="Charts").click()
    async with load.running():
        await page.wait_for_function(POINTS, arg=2)
        await page.evaluate("""() => {
          sessionStorage.breaks = 0;
          window.socket.on("disconnect", () => sessionStorage.breaks++);
        }""")
        stopped = [each for each in psutil.Process().children(recursive=True)
                   if "chrom" in each.name()]  # fmt: skip
        for each in stopped:
            each.suspend()
        await asyncio.sleep(STANDS_STILL_S)
        for each in stopped:
            each.resume()
        await page.wait_for_function("Number(sessionStorage.breaks) > 0")
        tab = page.get_by_role("tab", name="Charts")
        await expect(tab).to_be_visible()
        await tab.click()
        await page.wait_for_function(POINTS, arg=2)
