"""Live charts: what the browser has of them, and that it goes on where it was."""

from __future__ import annotations

import asyncio

import psutil
import pytest
from playwright.async_api import expect

from acceptance.load import Load
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

STATUSES = "document.querySelector(`[aria-label^='Requests by status']`)"
DRAW = f"""() => {{
  const lines = {{"200": [[1000, 5], [61000, 7]]}};
  drawCharts({{[{STATUSES}.id.slice(1)]: {{lines, isStacked: true}}}});
}}"""
BARS = f"""() => {{
  const chart = {STATUSES} && getElement(Number({STATUSES}.id.slice(1)))?.chart;
  const bars = chart?.getOption()?.series.find((each) => each.name === "200");
  return bars && bars.type === "bar" && bars.data.length === 2;
}}"""


async def test_charts_grow_and_are_whole_again_after_a_break(visitor: Visitor, load: Load) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}", "Charts")
    async with load.running():
        first = await (await page.wait_for_function(POINTS, arg=2)).json_value()
        await page.evaluate("window.socket.io.engine.close()")  # as when the network breaks off
        later = await (await page.wait_for_function(POINTS, arg=len(first) + 4)).json_value()
    assert later[: len(first)] == first
    assert later == sorted(set(later))


@pytest.mark.usefixtures("served")
async def test_charts_of_the_hour_are_there_again_when_their_tab_is(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}", "Charts")
    await page.wait_for_function(f"{STATUSES} !== null")
    await page.evaluate(DRAW)
    await page.wait_for_function(BARS)
    for tab in ("Keys", "Charts"):
        await page.get_by_role("tab", name=tab).click()
    await page.wait_for_function(BARS, timeout=10_000)


# Notes when charts were sent last; while ``deaf``, nobody tells the studio that they were read.
LISTEN = """() => {
  const {extendCharts} = window;
  window.extendCharts = (...told) => { window.heardAt = Date.now(); extendCharts(...told); };
  window.deaf = (yes) => { window.ackedMessageId = yes ? Infinity : -1; };
}"""
QUIET_MS = 5_000  # two charts' time


@pytest.mark.usefixtures("served")
async def test_a_page_that_nobody_reads_is_left_alone_until_somebody_does(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}", "Charts")
    await page.evaluate(LISTEN)
    await page.wait_for_function("window.heardAt")
    await page.evaluate("deaf(true)")
    await page.wait_for_function("most => Date.now() - heardAt > most", arg=QUIET_MS)
    await page.evaluate("deaf(false)")
    await page.wait_for_function("Date.now() - heardAt < 1000", timeout=10_000)


@pytest.mark.soak
async def test_a_browser_that_stood_still_is_cut_off_and_comes_back(
    visitor: Visitor, load: Load
) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}", "Charts")
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
