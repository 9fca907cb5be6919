"""What operators do in the studio, in a real browser: limits, objectives, alerts, jobs mended."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import urllib.request
from pathlib import Path
from urllib.error import HTTPError

import pytest
from playwright.async_api import Locator, Page, expect

from acceptance.load import Load
from acceptance.models import endpoint_file
from acceptance.system import EXAMPLES, Headgate, eventually, failures
from portal.conftest import NAME, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
READY_MS = 60_000


def deploy(studio: Headgate, name: str, folder: Path) -> None:
    studio.cli("online-endpoint", "create", "-f", endpoint_file(folder, name))
    studio.cli("online-deployment", "create", "-f", EXAMPLES / "echo" / "blue.yml",
               "--set", f"endpoint_name={name}", "--all-traffic")  # fmt: skip


async def choose(page: Page, field: str, option: str) -> None:
    await page.get_by_role("combobox", name=field).click()
    await page.get_by_role("option", name=option, exact=True).click()


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has_text=name)


async def test_a_quota_set_in_the_page_refuses_as_the_page_said(
    visitor: Visitor, studio: Headgate, tmp_path: Path
) -> None:
    page, name = visitor.page, f"quota-story-{secrets.token_hex(3)}"
    await asyncio.to_thread(deploy, studio, name, tmp_path)
    await visitor.open("/studio/operations", "Quotas")
    await page.get_by_role("button", name="New quota").click()
    dialog = page.get_by_role("dialog", name="New quota")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("say how the quota is called")).to_be_visible()
    await dialog.get_by_label("Name").fill("few")
    await dialog.get_by_label("At most").fill("2.5")
    await expect(dialog.get_by_text("a number of requests is whole")).to_be_visible()
    await dialog.get_by_label("At most").fill("2")
    await choose(page, "Endpoint", name)
    await expect(dialog.get_by_role("status")).to_have_text(
        re.compile(f"may use 2 requests of the endpoint {name} per day .* refused with 429")
    )
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(page, "few")).to_contain_text(f"endpoint {name}")
    uri = studio.cli_json("online-endpoint", "show", "-n", name)["scoring_uri"]
    key = studio.keys(name)["primaryKey"]

    def score() -> tuple[int, str]:
        asked = urllib.request.Request(uri, b"{}", {"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(asked, context=studio.tls) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            return refused.code, refused.read().decode()

    await eventually(lambda: score()[0] == 429, "requests beyond the quota are refused")
    error = json.loads((await asyncio.to_thread(score))[1])["error"]
    assert error["code"] == "QuotaExceeded" and "'few' allows 2 requests" in error["message"]
    await page.get_by_role("button", name="Change few").click()
    dialog = page.get_by_role("dialog", name="Quota few")
    await dialog.get_by_label("At most").fill("1000")
    await page.keyboard.press("Enter")
    await expect(row(page, "few")).to_contain_text("1,000")
    await eventually(lambda: score()[0] == 200, "a raised quota lets requests pass")
    await page.get_by_role("button", name="Remove few").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row(page, "few")).to_have_count(0)
    assert "few" not in {quota["name"] for quota in studio.cli_json("quota", "list")}


async def test_a_budget_is_made_changed_and_removed_in_the_page(
    visitor: Visitor, studio: Headgate
) -> None:
    page, name = visitor.page, f"budget-{secrets.token_hex(3)}"
    await visitor.open("/studio/costs")
    await page.get_by_role("button", name="New budget").click()
    dialog = page.get_by_role("dialog", name="New budget")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("a name begins with a letter or digit")).to_be_visible()
    await dialog.get_by_label("Name").fill(name)
    await dialog.get_by_label("Amount").fill("200")
    await dialog.get_by_label("Tell at").fill("50, most")
    await expect(dialog.get_by_text("numbers with commas between them")).to_be_visible()
    await dialog.get_by_label("Tell at").fill("50, 90")
    await choose(page, "Per", "week, from Monday")
    await expect(dialog.get_by_role("status")).to_contain_text(
        re.compile(r"has cost 100 \(50 %\) and 180 \(90 %\) USD in a week \(UTC\), once each")
    )
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(page, name)).to_contain_text("the workspace")
    (made,) = [each for each in studio.cli_json("budget", "list") if each["name"] == name]
    assert (made["amount"], made["time_grain"], made["thresholds"]) == (200, "week", [50, 90])
    await page.get_by_role("button", name=f"Change {name}").click()
    dialog = page.get_by_role("dialog", name=f"Budget {name}")
    await expect(dialog.get_by_label("Tell at")).to_have_value("50, 90")
    await dialog.get_by_label("Amount").fill("300")
    await page.keyboard.press("Enter")
    await expect(row(page, name)).to_contain_text("300")
    await page.get_by_role("button", name=f"Remove {name}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(row(page, name)).to_have_count(0)
    assert name not in {each["name"] for each in studio.cli_json("budget", "list")}


@pytest.mark.usefixtures("served")
async def test_an_objective_is_changed_in_the_page_and_taken_back(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    await visitor.open("/studio/operations", "Service levels")
    await page.get_by_role("button", name=f"Change {NAME}").click()
    dialog = page.get_by_role("dialog", name=f"Objective of {NAME}")
    good = dialog.get_by_label("Answered well")
    await good.fill("100")
    await expect(dialog.get_by_text("above 0 and below 100, such as 99.9")).to_be_visible()
    await good.fill("99.5")
    await dialog.get_by_label("Answered within").fill("250")
    await expect(dialog.get_by_text("Of 100,000 requests in 30 days 500 may fail")).to_be_visible()
    await dialog.get_by_role("button", name="Save").click()
    await expect(row(page, NAME)).to_contain_text("99.5 %, 95 % within 250 ms over 30 days")
    saved = studio.cli_json("sla", "show", "-e", NAME)
    assert (saved["availability_target_percent"], saved["latency_target_ms"]) == (99.5, 250)
    await page.get_by_role("button", name=f"Reset {NAME}").click()
    await page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    await expect(row(page, NAME)).to_contain_text("as all have it")


@pytest.mark.usefixtures("served")
async def test_settings_of_an_endpoint_are_changed_and_nothing_else(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    before = studio.cli_json("online-endpoint", "show", "-n", NAME)
    await visitor.open(f"/studio/endpoints/{NAME}")
    await page.get_by_role("tab", name="Settings").click()
    await page.get_by_role("button", name="Change settings").click()
    dialog = page.get_by_role("dialog", name=f"Settings of {NAME}")
    await dialog.get_by_label("Description").fill("looked at by tests")
    await dialog.get_by_label("Tags").fill("team=payments\nnothing")
    await expect(dialog.get_by_text("'nothing': a tag is written name=value")).to_be_visible()
    await dialog.get_by_label("Tags").fill("team=payments\ncost=a=b")
    await dialog.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("team=payments, cost=a=b")).to_be_visible()
    after = studio.cli_json("online-endpoint", "show", "-n", NAME)
    assert after["tags"] == {"team": "payments", "cost": "a=b"}
    assert after["description"] == "looked at by tests"
    assert after["traffic"] == before["traffic"]


async def test_an_alert_rule_is_made_its_secret_told_once_and_a_forbidden_address_explained(
    visitor: Visitor, studio: Headgate
) -> None:
    page = visitor.page
    await visitor.open("/studio/operations", "Alerts")
    await expect(page.get_by_text("There is no alert rule.")).to_be_visible()
    await page.get_by_role("button", name="New alert rule").click()
    dialog = page.get_by_role("dialog", name="New alert rule")
    await dialog.get_by_label("Name").fill("on-call")
    await choose(page, "When", "a deployment has failed")
    await page.keyboard.press("Escape")
    await dialog.get_by_label("Address that gets it").fill("https://elsewhere.example.com/x")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert").filter(has_text="alert_urls")).to_be_visible()
    await dialog.get_by_label("Address that gets it").fill("https://hooks.example.com/x")
    await dialog.get_by_role("button", name="Save").click()
    secret = page.get_by_role("dialog", name="Secret of the rule")
    await expect(secret.get_by_text(re.compile("^[0-9a-f]{32,}$"))).to_be_visible()
    await secret.get_by_role("button", name="Close").click()
    await expect(row(page, "on-call")).to_contain_text("deployment-failed")
    assert [rule["name"] for rule in studio.cli_json("alert", "list")] == ["on-call"]
    await page.get_by_role("button", name="Deliveries on-call").click()
    await expect(page.get_by_text("Nothing was sent yet.")).to_be_visible()
    await page.get_by_role("button", name="Close").click()
    await page.get_by_role("button", name="Remove on-call").click()
    await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    await expect(page.get_by_text("There is no alert rule.")).to_be_visible()


async def test_a_rule_that_fires_under_load_is_marked_with_its_reason(
    visitor: Visitor, studio: Headgate, tmp_path: Path
) -> None:
    page, name = visitor.page, f"scale-story-{secrets.token_hex(3)}"
    await asyncio.to_thread(deploy, studio, name, tmp_path)
    of = ("-e", name, "-d", "blue")
    await asyncio.to_thread(
        studio.cli, "autoscale", "create", *of,
        "--min-count", "1", "--max-count", "2", "--count", "1",
    )  # fmt: skip
    await asyncio.to_thread(
        studio.cli, "autoscale", "rule", "create", *of,
        "--condition", "RequestsPerMinute > 60 total 4s", "--scale", "out", "1",
    )  # fmt: skip
    load = Load(await asyncio.to_thread(studio.target, name), connections=2, pause_s=0.02)
    await visitor.open(f"/studio/endpoints/{name}")
    await page.get_by_role("tab", name="Charts").click()
    why = page.get_by_text(re.compile(r"blue 1→2: .*RequestsPerMinute.*> 60"))
    await expect(why).to_have_count(0)
    async with load.running():
        await expect(why).to_be_visible(timeout=READY_MS)
        marks = await page.wait_for_function(MARKS)
    assert await marks.json_value() == ["blue 1→2"]
    assert failures(load) == [] and load.refused == 0


# The marks on the chart of the instances, once it has drawn the second instance as well.
MARKS = """() => {
  const place = document.querySelector("[aria-label^='Ready instances']");
  const { series } = getElement(Number(place.id.slice(1))).chart.getOption();
  const line = series[0];
  const hasGrown = line && line.data.some(([, ready]) => ready === 2);
  return hasGrown && line.markLine.data.map((mark) => mark.label.formatter);
}"""


async def test_a_failed_job_is_resumed_and_what_was_given_up_tried_again_by_buttons(
    visitor: Visitor, studio: Headgate, tmp_path: Path
) -> None:
    page, mended = visitor.page, tmp_path / "mended"
    await asyncio.to_thread(break_jobs, studio, tmp_path, mended)
    for job, button in (("resumed", "Resume"), ("tried-again", "Try them again")):
        mended.unlink(missing_ok=True)
        await asyncio.to_thread(
            studio.cli, "batch-endpoint", "invoke", "-n", "mended", "--input", tmp_path / "data",
            "--job-name", job,
        )  # fmt: skip
        await visitor.open(f"/studio/jobs/{job}")
        await expect(page.get_by_text(re.compile("^Failed · "))).to_be_visible(timeout=READY_MS)
        await expect(page.get_by_role("cell", name=re.compile("not there yet"))).to_be_visible()
        await expect(page.get_by_role("button", name="Download")).to_have_count(0)
        mended.touch()
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_text("Completed · 6 of 6")).to_be_visible(timeout=READY_MS)
        await expect(page.get_by_text("Nothing was given up.")).to_be_visible()
        async with page.expect_download() as waiting:
            await page.get_by_role("button", name="Download").click()
        lines = (await (await waiting.value).path()).read_text().split()
        assert lines == [f"{number}.txt" for number in range(6)]


def break_jobs(studio: Headgate, folder: Path, mended: Path) -> None:
    """A deployment whose jobs fail by one file until ``mended`` is there."""
    (folder / "code").mkdir()
    (folder / "code" / "batch.py").write_text(
        "from pathlib import Path\n\ndef init(): pass\n\ndef run(mini_batch):\n"
        f"    if '3.txt' in mini_batch[0] and not Path({str(mended)!r}).exists():\n"
        "        raise ValueError('the third is not there yet')\n"
        "    return [Path(path).name for path in mini_batch]\n"
    )
    (folder / "data").mkdir()
    for number in range(6):
        (folder / "data" / f"{number}.txt").write_text(str(number))
    (folder / "deployment.yml").write_text(
        "name: all\nendpoint_name: mended\ntype: model\nmodel: {path: code}\n"
        "environment: {conda_file: {dependencies: [python=3.11]}}\n"
        "code_configuration: {code: code, scoring_script: batch.py}\n"
        "settings: {mini_batch_size: 1, error_threshold: 0, retry_settings: {max_retries: 0}}\n"
    )
    studio.cli("batch-endpoint", "create", "-n", "mended")
    studio.cli("batch-deployment", "create", "-f", folder / "deployment.yml", "--set-default")
