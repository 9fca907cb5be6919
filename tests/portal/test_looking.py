"""What people look up in the studio: logs, events, costs, and what a form means elsewhere."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from portal.conftest import NAME, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


async def test_pasted_yaml_is_checked_while_it_is_typed_and_the_line_is_named(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await visitor.open("/studio/")
    await page.get_by_role("button", name="New endpoint").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("tab", name="YAML").click()
    await dialog.locator(".cm-content").click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text("name: my-endpoint\nauth_mode: kye\n")
    await expect(dialog.get_by_role("status")).to_contain_text(re.compile(r":2\b.*auth_mode"))
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text("name: my-endpoint\nauth_mode: key\n")
    await expect(dialog.get_by_role("status")).to_have_text("")


@pytest.mark.usefixtures("served")
async def test_the_form_of_a_deployment_says_what_it_is_as_yaml_and_as_a_command(
    visitor: Visitor,
) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}/deploy")
    await page.get_by_label("Requests at once per instance").fill("7")
    await page.get_by_role("tab", name="YAML").click()
    text = page.get_by_role("textbox", name="YAML of the deployment")
    await expect(text).to_contain_text(f"endpoint_name: {NAME}")
    await expect(text).to_contain_text("max_concurrent_requests_per_instance: 7")
    await expect(page.get_by_text("headgate online-deployment create -f")).to_be_visible()


@pytest.mark.usefixtures("served")
async def test_logs_are_followed_and_filtered(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open(f"/studio/endpoints/{NAME}", "Logs")
    lines = page.get_by_role("log")
    await expect(lines).to_contain_text("ready to say")
    await page.get_by_label("Request id").fill("of-nobody")
    await expect(lines).not_to_contain_text("ready to say")
    await page.get_by_label("Request id").fill("")
    await expect(lines).to_contain_text("ready to say")
    await page.get_by_role("combobox", name="Level").click()
    await page.get_by_role("option", name="ERROR").click()
    await expect(lines).not_to_contain_text("ready to say")


@pytest.mark.usefixtures("served")
async def test_events_are_searched_and_replayed_from_a_moment(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open("/studio/operations", "Events")
    await page.get_by_label("Search events").fill(f"endpoint={NAME} ")
    made = page.get_by_role("row").filter(has_text="instance_ready")
    await expect(made.first).to_contain_text(f"endpoint={NAME}")
    moment = page.get_by_label("Replay from (UTC)")
    await moment.fill("2099-01-01 00:00")
    await page.keyboard.press("Enter")
    await expect(made).to_have_count(0)
    await moment.fill("2000-01-01 00:00")
    await page.keyboard.press("Enter")
    await expect(made.first).to_be_visible()


@pytest.mark.usefixtures("served")
async def test_costs_are_added_up_by_day(visitor: Visitor) -> None:
    page = visitor.page
    await visitor.open("/studio/costs")
    await page.get_by_role("combobox", name="By").click()
    await page.get_by_role("option", name="Day").click()
    day = page.get_by_role("cell", name=re.compile(r"^\d{4}-\d\d-\d\d$"))
    await expect(day.first).to_be_visible(timeout=60_000)  # once instances have been counted
