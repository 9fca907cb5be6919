"""What people do in the studio, in a real browser, from the first page on."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from acceptance.load import Load
from acceptance.models import endpoint_file
from acceptance.system import EXAMPLES, Headgate, failures
from portal.conftest import NAME, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
READY_MS = 60_000
RUN = "def run(x):\n    return x\n"
BROKEN = "def init():\n    weights = open('missing.bin')\n\n" + RUN
MENDED = "def init():\n    pass\n\n" + RUN
_numbers = count(1)


def some_name() -> str:
    return f"st-{next(_numbers)}"


async def make_endpoint(visitor: Visitor, name: str) -> None:
    page = visitor.page
    await visitor.open("/studio/")
    await page.get_by_role("button", name="New endpoint").click()
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page).to_have_url(re.compile(f"/studio/endpoints/{name}$"), timeout=READY_MS)


async def write_script(page: Page, text: str) -> None:
    await page.locator(".cm-content").first.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(text)


async def test_from_nothing_to_a_scored_request_without_a_terminal(visitor: Visitor) -> None:
    page, name = visitor.page, some_name()
    await make_endpoint(visitor, name)
    await page.get_by_role("link", name="New deployment").click()
    await page.get_by_role("button", name="Deploy").click()
    await expect(page.get_by_text("1 of 1 instances ready")).to_be_visible(timeout=READY_MS)
    await expect(page.get_by_text("has all traffic")).to_be_visible(timeout=READY_MS)
    await visitor.open(f"/studio/endpoints/{name}")
    await page.get_by_role("tab", name="Test").click()
    await page.get_by_role("button", name="Send").click()
    await expect(page.get_by_text("200 OK")).to_be_visible()
    await expect(page.get_by_text('"sums"')).to_be_visible()
    await page.get_by_role("tab", name="Events").click()
    await expect(page.get_by_text("instance_ready").first).to_be_visible()


async def test_a_failed_deployment_is_understood_and_mended_from_the_page(visitor: Visitor) -> None:
    page, name = visitor.page, some_name()
    await make_endpoint(visitor, name)
    await visitor.open(f"/studio/endpoints/{name}/deploy")
    await write_script(
        page, "def init():\n    weights = open('missing.bin')\n\ndef run(x):\n    return x\n"
    )
    await page.get_by_role("button", name="Deploy").click()
    await expect(page.get_by_role("alert").first).to_contain_text("missing.bin", timeout=READY_MS)
    await page.get_by_role("link", name="Mend it").click()
    await expect(page.locator(".cm-content").first).to_contain_text("missing.bin")
    await write_script(page, MENDED)
    await page.get_by_role("button", name="Deploy").click()
    await expect(page.get_by_text("1 of 1 instances ready")).to_be_visible(timeout=READY_MS)


async def test_traffic_is_moved_by_the_slider_under_load_and_no_request_is_lost(
    visitor: Visitor, studio: Headgate, tmp_path: Path
) -> None:
    page, name = visitor.page, some_name()
    await asyncio.to_thread(deploy_two, studio, name, tmp_path)
    load = Load(await asyncio.to_thread(studio.target, name), connections=2, pause_s=0.005)
    await visitor.open(f"/studio/endpoints/{name}")
    async with load.running():
        await load.reach(50)
        slider = page.get_by_role("slider", name="Traffic of green in per cent")
        await slider.locator("[tabindex]").focus()
        for _ in range(5):
            await page.keyboard.press("PageUp")
        await expect(page.get_by_text("blue: 100 % → 50 %")).to_be_visible()
        assert {shot.deployment for shot in load.shots} == {"blue"}  # nothing applied so far
        await page.get_by_role("button", name="Apply", exact=True).click()
        await expect(page.get_by_text("changing the traffic: done")).to_be_visible()
        await load.more(200)
        assert {shot.deployment for shot in load.shots[-150:]} == {"blue", "green"}
        await expect(page.get_by_text("50 %", exact=True)).to_have_count(2)
    assert failures(load) == [] and load.refused == 0
    shown = studio.cli_json("online-endpoint", "show", "-n", name)
    assert shown["traffic"] == {"blue": 50, "green": 50}


def deploy_two(studio: Headgate, name: str, folder: Path) -> None:
    studio.cli("online-endpoint", "create", "-f", endpoint_file(folder, name))
    for colour in ("blue", "green"):
        studio.cli(
            "online-deployment", "create", "-f", EXAMPLES / "echo" / f"{colour}.yml",
            "--set", f"endpoint_name={name}", *(["--all-traffic"] if colour == "blue" else []),
        )  # fmt: skip


async def test_a_mirror_is_set_and_its_latencies_are_shown_beside_those_of_clients(
    visitor: Visitor, load: Load
) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}")
    await page.get_by_role("combobox", name="Mirror to").click()
    await page.get_by_role("option", name="green").click()
    await page.get_by_label("Mirrored per cent").fill("50")
    await page.get_by_role("button", name="Apply mirror").click()
    await expect(page.get_by_text("changing the mirror: done")).to_be_visible()
    await page.get_by_role("tab", name="Mirror").click()
    async with load.running():
        await expect(page.get_by_text(re.compile(r"^200: \d+$"))).to_have_count(2)
        drawn = await page.wait_for_function(DISTRIBUTIONS)
    assert await drawn.json_value() == ["blue", "green (copies)"]
    assert failures(load) == [] and load.refused == 0


# The names of what the chart shows, once there are at least a bar's four corners of both.
DISTRIBUTIONS = """() => {
  const place = document.querySelector("[aria-label^='Distributions of latencies']");
  const { series } = getElement(Number(place.id.slice(1))).chart.getOption();
  const isDrawn = series.length === 2 && series.every((side) => side.data.length >= 4);
  return isDrawn && series.map((side) => side.name);
}"""


@pytest.mark.usefixtures("served")
async def test_an_autoscale_setting_is_tried_saved_and_in_force(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}")
    await page.get_by_role("tab", name="Autoscale").click()
    await expect(page.get_by_text("no setting yet; a draft")).to_be_visible()
    await page.get_by_label("At most").fill("6")
    await page.keyboard.press("Tab")
    await page.get_by_role("button", name="Simulate").click()
    await expect(
        page.get_by_text(re.compile(r"[1-9].* requests, .* instance hours"))
    ).to_be_visible()
    await expect(page.get_by_role("img", name="Simulated requests and instances")).to_be_visible()
    await expect(page.get_by_text("no setting yet; a draft")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("in force", exact=True)).to_be_visible()
    await page.reload()
    await page.get_by_role("tab", name="Autoscale").click()
    await expect(page.get_by_text("in force", exact=True)).to_be_visible()
    await expect(page.get_by_label("At most")).to_have_value("6")
    listed = studio.cli_json("autoscale", "list")
    (saved,) = [each for each in listed if each["endpoint"] == NAME]
    assert (saved["endpoint"], saved["deployment"]) == (NAME, "blue")


async def test_a_replaced_key_is_shown_and_the_old_one_is_gone(
    visitor: Visitor, studio: Headgate
) -> None:
    page, name = visitor.page, some_name()
    await make_endpoint(visitor, name)
    before = studio.keys(name)
    await page.get_by_role("tab", name="Keys").click()
    await expect(page.get_by_text(before["primaryKey"])).to_have_count(0)
    await page.get_by_role("button", name="Show").first.click()
    await expect(page.get_by_text(before["primaryKey"])).to_be_visible()
    await page.get_by_role("button", name="Replace").first.click()
    await page.get_by_role("dialog").get_by_role("button", name="Replace").click()
    await expect(page.get_by_text(before["primaryKey"])).to_have_count(0)
    after = studio.keys(name)
    assert after["primaryKey"] != before["primaryKey"]
    assert after["secondaryKey"] == before["secondaryKey"]
    await expect(page.get_by_text(after["primaryKey"])).to_be_visible()
    await visitor.open("/studio/operations")
    await page.get_by_role("tab", name="Audit").click()
    await page.get_by_label("Search events").fill(f"{name}/regeneratekeys")
    row = page.get_by_role("row").filter(has_text=f"{name}/regeneratekeys")
    await expect(row.first).to_contain_text("admin")
    await expect(row.first).to_contain_text("127.0.0.1")


async def test_markup_in_names_tags_and_logs_is_text(visitor: Visitor, studio: Headgate) -> None:
    page, name = visitor.page, some_name()
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    await make_endpoint(visitor, name)
    await asyncio.to_thread(
        studio.cli, "online-endpoint", "update", "-n", name,
        "--set", f"description={evil}", "--set", f"tags.a={evil}",
    )  # fmt: skip
    await visitor.open(f"/studio/endpoints/{name}/deploy")
    script = "def init():\n    print({0!r}, flush=True)\n    raise ValueError({0!r})\n\n" + RUN
    await write_script(page, script.format(evil))
    await page.get_by_role("button", name="Deploy").click()
    await expect(page.get_by_role("alert").first).to_contain_text("<img src=x", timeout=READY_MS)
    await expect(page.get_by_role("log")).to_contain_text("<img src=x", timeout=READY_MS)
    await visitor.open(f"/studio/endpoints/{name}")
    await page.get_by_role("tab", name="Settings").click()
    await expect(page.get_by_text("<img src=x").first).to_be_visible()
    assert "owned" not in await page.title()
    assert await page.locator("img[src=x]").count() == 0


@pytest.mark.usefixtures("worked")
async def test_a_reader_sees_no_controls_that_change_something(
    studio: Headgate, browser: Browser, tmp_path: Path
) -> None:
    name = some_name()
    await asyncio.to_thread(
        studio.cli, "online-endpoint", "create", "-f", endpoint_file(tmp_path, name)
    )
    told = await asyncio.to_thread(studio.cli_json, "token", "create", name, "--role", "reader")
    context = await browser.new_context(ignore_https_errors=True)
    page = await context.new_page()
    await page.goto(f"{studio.running()['gateway']}/studio/endpoints/{name}")
    await page.get_by_label("Token").fill("hga_mistyped")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("the token is not known")
    await page.get_by_label("Token").fill(told["token"])  # and still to the page that was wanted
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name=name)).to_be_visible()
    await expect(page.get_by_role("tab", name="Deployments")).to_be_visible()
    for control in ("New deployment", "Delete endpoint", "Apply", "Show"):
        await expect(page.get_by_text(control, exact=True)).to_have_count(0)
    await page.get_by_role("tab", name="Keys").click()
    await expect(page.get_by_text("shown to owners")).to_be_visible()
    await page.goto(f"{studio.running()['gateway']}/studio/jobs/{NAME}")
    await expect(page.get_by_role("cell", name=re.compile("invalid literal"))).to_be_visible()
    await expect(page.get_by_role("button", name="Download")).to_be_visible()
    for control in ("Cancel", "Pause", "Resume", "Try them again"):
        await expect(page.get_by_role("button", name=control)).to_have_count(0)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_label("Token")).to_be_visible()
    await context.close()


async def test_who_is_not_signed_in_gets_nothing_and_a_link_works_once(
    studio: Headgate, browser: Browser
) -> None:
    base = studio.running()["gateway"]
    link = (await asyncio.to_thread(studio.cli, "studio")).strip()
    context = await browser.new_context(ignore_https_errors=True)
    for path in ("/studio/", "/studio/operations", "/studio/endpoints/x"):
        answer = await context.request.get(f"{base}{path}", max_redirects=0)
        assert answer.status in (303, 401), path
    wrong = await context.request.post(f"{base}/studio/sign-in", form={"token": "hga_wrong"})
    assert wrong.status == 401
    assert await context.cookies() == []
    foreign = await context.request.post(
        f"{base}/studio/sign-in", form={"token": "x"}, headers={"Origin": "https://evil.example"}
    )
    assert foreign.status == 403
    first = await context.request.get(link)
    assert first.status == 200
    (cookie,) = await context.cookies()
    assert cookie["httpOnly"] and cookie["secure"] and cookie["sameSite"] == "Strict"
    policy = first.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
    other = await browser.new_context(ignore_https_errors=True)
    assert (await other.request.get(link)).status == 401
    assert json.dumps(await other.cookies()) == "[]"
    await context.close()
    await other.close()


async def test_a_batch_job_is_made_followed_and_downloaded_from_the_page_alone(
    visitor: Visitor, tmp_path: Path
) -> None:
    page, name = visitor.page, some_name()
    files = [tmp_path / f"{number}.txt" for number in range(12)]
    for number, file in enumerate(files):
        file.write_text(f"answer {number}")
    await visitor.open("/studio/batch")
    await page.get_by_role("button", name="New batch endpoint").click()
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Create", exact=True).click()
    await expect(page).to_have_url(re.compile(f"/studio/batch/{name}$"), timeout=READY_MS)
    await expect(page.get_by_text(f"/batchEndpoints/{name}/jobs")).to_be_visible()
    await page.get_by_role("link", name="New deployment").click()
    await page.get_by_label("Name of the pool").fill("studio-pool")
    await page.get_by_label("Files per mini-batch").fill("1")
    await page.get_by_role("button", name="Failures and output").click()
    await page.get_by_label("Further attempts at a mini-batch").fill("0")
    await write_script(page, BATCH)
    await page.get_by_role("button", name="Deploy").click()
    await expect(page.get_by_role("tab", name="New job")).to_be_visible(timeout=READY_MS)
    await page.get_by_role("tab", name="Deployments").click()
    await expect(page.get_by_text("default", exact=True)).to_be_visible()
    await page.get_by_role("tab", name="New job").click()
    async with page.expect_file_chooser() as choosing:
        await page.get_by_label("Input files").last.click()
    await (await choosing.value).set_files(files)
    await expect(page.get_by_text("12 files are here")).to_be_visible()
    await page.get_by_role("button", name="Start the job").click()
    await expect(page.get_by_text("Completed · 12 of 12")).to_be_visible(timeout=READY_MS)
    await expect(page.get_by_text("11 done, 1 given up").or_(
        page.get_by_text("1 given up, 11 done"))).to_be_visible()  # fmt: skip
    await expect(page.locator(".cells .failed")).to_have_count(1)
    await expect(page.get_by_role("cell", name=re.compile("this one is bad"))).to_be_visible()
    await expect(page.get_by_role("button", name="Try them again")).to_be_visible()
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Download").click()
    downloaded = await (await waiting.value).path()
    lines = downloaded.read_text().splitlines()
    assert lines == [f"answer {number}" for number in sorted(range(12), key=str) if number != 7]
    await visitor.open("/studio/operations", "Instances")
    node = page.get_by_role("row").filter(has_text="studio-pool").filter(has_text=f"{name} / ")
    await expect(node.first).to_contain_text("idle")  # it waits for another job


BATCH = """
from pathlib import Path

def init():
    pass

def run(mini_batch):
    texts = [Path(path).read_text() for path in mini_batch]
    if "answer 7" in texts:
        raise ValueError("this one is bad <img src=x>")
    return texts
"""
