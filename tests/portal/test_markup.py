"""Whatever people, models and files say is text on every page; nothing that is injected runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from acceptance.system import Headgate
from headgate.client import Client, find_target
from headgate.client.autoscale import Autoscale
from headgate.portal.autoscale_core import template
from headgate_contracts.errors import HeadgateError
from portal.conftest import Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

NAME = "poison"
# Elements and attributes that run, a template of the page library, a fence of its code blocks, a
# link that runs, and characters that turn a line around or colour a terminal.
FLAT = (
    "\u202e\"'><img src=poison.png onerror=alert(1)><svg onload=alert(2)>{{7*7}}${8*8}"
    "javascript:alert(3)"
)
EVIL = (
    f"{FLAT}</textarea><script>alert(4)</script>`\n```\n<iframe src=javascript:alert(5)></iframe>"
)
NEEDLE = "onerror=alert(1)"
SCRIPT = f"""
EVIL = {EVIL!r}
def init():
    print(EVIL, "\\x1b[31mred\\x1b[0m", flush=True)
def run(data):
    return {{EVIL: EVIL}}
"""
FAILING = f"def init():\n    raise ValueError({EVIL!r})\n\ndef run(data):\n    return 1\n"
BATCH = f"def init(): pass\ndef run(mini_batch): raise ValueError({FLAT!r})\n"
INJECTED = """() => {
  const found = document.querySelectorAll(
    "img[src*=poison], svg[onload], [onerror], iframe, a[href^='javascript:' i], script[src=x]"
  );
  return [...found].map((each) => each.outerHTML.slice(0, 200));
}"""

ENDPOINT, JOB = f"/studio/endpoints/{NAME}", f"/studio/jobs/{NAME}"
OPERATIONS, AT = "/studio/operations", quote(FLAT, safe="")
# address, tabs, and on which of them (the address itself: "") the text is to be seen
PAGES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("/studio/", (), ()),
    (
        ENDPOINT,
        ("Charts", "Mirror", "Autoscale", "Test", "Keys", "Logs", "Events", "Settings"),
        ("", "Autoscale", "Logs", "Events", "Settings"),
    ),
    (f"{ENDPOINT}/deploy", ("Packages (conda)", "YAML"), ()),
    (f"{ENDPOINT}/deployments/bad", (), ("",)),
    (f"{ENDPOINT}/deployments/good", (), ("",)),
    ("/studio/batch", (), ("",)),
    (f"/studio/batch/{NAME}-b", ("Jobs", "Deployments", "New job", "Settings"), ("Settings",)),
    (f"/studio/batch/{NAME}-b/deploy", (), ()),
    (JOB, (), ("",)),
    ("/studio/costs", (), ("",)),
    (OPERATIONS, ("Instances", "Events", "Audit", "Quotas", "Service levels"),
     ("Events", "Audit", "Quotas")),
    (f"/studio/endpoints/{AT}", (), ("",)),
    (f"/studio/endpoints/{AT}/deploy", (), ("",)),
    (f"{ENDPOINT}/deployments/{AT}", (), ("",)),
    (f"/studio/batch/{AT}", (), ("",)),
    (f"/studio/batch/{AT}/deploy", (), ("",)),
    (f"/studio/jobs/{AT}", (), ("",)),
)  # fmt: skip


@pytest.fixture(scope="session")
def poisoned(studio: Headgate, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A system in which everything that may hold any text holds markup."""
    folder = tmp_path_factory.mktemp("poison")
    about = {"description": EVIL, "tags": {"team": EVIL, FLAT: "x"}}

    def write(name: str, document: object) -> Path:
        (folder / name).write_text(json.dumps(document))
        return folder / name

    for script, text in (("good.py", SCRIPT), ("bad.py", FAILING), ("batch.py", BATCH)):
        (folder / script.removesuffix(".py")).mkdir()
        (folder / script.removesuffix(".py") / script).write_text(text)
    studio.cli("online-endpoint", "create", "-f", write("e.yml", {"name": NAME, **about}))
    for name in ("good", "bad"):
        deployment = {
            "name": name, "endpoint_name": NAME, "instance_type": "Standard_DS3_v2",
            "instance_count": 1, "environment_variables": {"EVIL": FLAT}, **about,
            "code_configuration": {"code": name, "scoring_script": f"{name}.py"},
        }  # fmt: skip
        studio.try_cli("online-deployment", "create", "-f", write(f"{name}.yml", deployment),
                       *(["--all-traffic"] if name == "good" else []))  # fmt: skip
    studio.cli("budget", "create", "-n", "evil", "--amount", "5", "--tag", f"team={FLAT}")
    studio.cli("quota", "set", "-n", "evil", "--kind", "requests", "--caller", FLAT,
               "--window", "1h", "--limit", "24")  # fmt: skip
    data = folder / "data"
    data.mkdir()
    (data / f"{FLAT[1:]}.txt").write_text("1")
    studio.cli("batch-endpoint", "create", "-f", write("b.yml", {"name": f"{NAME}-b", **about}))
    batch = {
        "name": "all", "endpoint_name": f"{NAME}-b", "type": "model", "model": {"path": "batch"},
        "environment": {"conda_file": {"dependencies": ["python=3.11"]}}, **about,
        "code_configuration": {"code": "batch", "scoring_script": "batch.py"},
        "settings": {"mini_batch_size": 1, "retry_settings": {"max_retries": 0}},
    }  # fmt: skip
    studio.cli("batch-deployment", "create", "-f", write("bd.yml", batch), "--set-default")
    studio.try_cli("batch-endpoint", "invoke", "-n", f"{NAME}-b", "--input", data,
                   "--job-name", NAME, "--stream")  # fmt: skip
    asyncio.run(_by_hand(studio))


async def _by_hand(studio: Headgate) -> None:
    """What no command line would send."""
    async with Client(find_target(studio.data)) as client:
        spec = template(NAME, "bad")
        profile = spec.profiles[0].model_copy(update={"name": FLAT[:200]})
        await Autoscale(client).put(spec.model_copy(update={"profiles": (profile,)}), "*")
        with pytest.raises(HeadgateError):
            path = f"{client.context.workspace_id}/onlineEndpoints/{AT}"
            await client.http.send("DELETE", path, query={"api-version": "2025-09-01"})


@pytest_asyncio.fixture
async def victim(visitor: Visitor) -> AsyncIterator[Visitor]:
    """Whoever looks; a dialog is what a script that ran would open."""

    async def caught(dialog: object) -> None:
        visitor.faults.append("a script ran")
        await dialog.dismiss()  # type: ignore[attr-defined]

    visitor.page.on("dialog", caught)
    yield visitor


async def look(page: Page, place: str, *, is_to_be_seen: bool) -> None:
    if is_to_be_seen:
        await expect(page.get_by_text(NEEDLE).first, place).to_be_visible()
    else:
        await page.wait_for_timeout(500)
    assert await page.evaluate(INJECTED) == [], place


@pytest.mark.usefixtures("poisoned")
async def test_markup_is_text_on_every_page_and_tab(victim: Visitor) -> None:
    page = victim.page
    for path, tabs, seen in PAGES:
        await victim.open(path)
        await expect(page.get_by_role("heading", level=1)).to_be_visible()
        await look(page, path, is_to_be_seen="" in seen)
        for tab in tabs:
            await page.get_by_role("tab", name=tab, exact=True).click()
            await look(page, f"{path} {tab}", is_to_be_seen=tab in seen)


@pytest.mark.usefixtures("poisoned")
async def test_markup_that_is_typed_and_answered_is_text(victim: Visitor) -> None:
    page = victim.page
    await victim.open(ENDPOINT)
    await page.get_by_role("tab", name="Test", exact=True).click()
    await page.locator(".cm-content").first.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(json.dumps({"data": EVIL}) + f"\n```\n{EVIL}")
    await page.get_by_text("Copy as curl").click()
    await expect(
        page.locator(".lane").get_by_text("curl --cacert").filter(has_text=NEEDLE).first
    ).to_be_visible()
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".lane").get_by_text(NEEDLE).first).to_be_visible()
    assert await page.evaluate(INJECTED) == []
    await victim.open("/studio/")
    await page.get_by_role("button", name="New endpoint").click()
    await page.get_by_role("tab", name="YAML").click()
    await page.locator(".cm-content").first.click()
    await page.keyboard.press("Control+A")
    await page.keyboard.insert_text(f"name: {json.dumps(FLAT)}\n{json.dumps(FLAT)}: 1\n")
    await page.wait_for_timeout(500)
    assert await page.evaluate(INJECTED) == []


async def test_what_is_injected_all_the_same_does_not_run(visitor: Visitor) -> None:
    """The policy of the page, should a page ever be wrong."""
    page = visitor.page
    await visitor.open("/studio/")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.evaluate("""() => {
      const add = (html) => document.body.insertAdjacentHTML("beforeend", html);
      add('<img src=/studio/livez onerror="window.ran = 1">');
      add('<a id=evil href="javascript:window.ran = 2">go</a>');
      const script = document.createElement("script");
      script.textContent = "window.ran = 3";
      document.body.append(script);
      document.getElementById("evil").click();
    }""")
    await page.wait_for_timeout(500)
    assert await page.evaluate("window.ran") is None
    refused = [fault for fault in visitor.faults if "Content Security Policy" in fault]
    assert len(refused) == len(visitor.faults) == 3, visitor.faults
    visitor.faults.clear()
