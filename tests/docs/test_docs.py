"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from headgate.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (\S*) ?\|", (ROOT / "docs" / "settings.md").read_text(), re.M)
    )
    assert list(rows) == list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        shown = rows[name].strip("`")
        default = "" if field.default is None else str(field.default)
        assert shown == (default.lower() if isinstance(field.default, bool) else default), name


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    for page in folder.glob("0*.md"):
        assert f"({page.name})" in index
        for part in ("**Context.**", "**Decision.**", "**Consequences.**", "**Measurement.**"):
            assert part in page.read_text(), f"{page.name} lacks {part}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_make_target_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = set(re.findall(r"^make ([a-z]+)", (ROOT / "README.md").read_text(), re.M))
    assert used <= targets
