"""Which files of a folder are sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate.client.ignore import is_ignored, parse
from headgate.client.uploads import _measured, _sources
from headgate_contracts.errors import HeadgateError


@pytest.mark.parametrize(
    ("lines", "path", "ignored"),
    [
        (["*.log"], "a/b.log", True),
        (["*.log", "!keep.log"], "keep.log", False),
        (["/data"], "data", True),
        (["/data"], "a/data", False),
        (["a/b"], "a/b", True),
        (["a/b"], "x/a/b", False),
        (["**/b"], "x/a/b", True),
        (["a/**"], "a/x/y", True),
        (["a/**/z"], "a/z", True),
        (["?.py"], "a.py", True),
        (["?.py"], "ab.py", False),
        (["[!a].py"], "b.py", True),
        (["[z-a]", "x"], "x", True),
        (["# comment", ""], "# comment", False),
        (["\\#file"], "#file", True),
        (["a\\*"], "a*", True),
        (["a\\*"], "ab", False),
    ],
)
def test_ignore_rules_are_those_of_git(lines: list[str], path: str, ignored: bool) -> None:
    assert is_ignored(parse(lines), path, is_folder=False) is ignored


def test_a_rule_for_folders_leaves_files_alone() -> None:
    rules = parse(["build/"])
    assert is_ignored(rules, "build", is_folder=True)
    assert not is_ignored(rules, "build", is_folder=False)


def files(folder: Path, *, keep_name: bool = False) -> list[str]:
    return [source.path for source in _sources(folder, keep_name)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "code"
    for name in (
        "score.py",
        "sub/help.py",
        "__pycache__/x.pyc",
        ".git/HEAD",
        "a.md",
        "b.bin",
    ):
        file = inside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return inside


def test_caches_and_version_control_are_never_sent(folder: Path) -> None:
    assert files(folder) == ["a.md", "b.bin", "score.py", "sub/help.py"]


def test_amlignore_wins_over_gitignore(folder: Path) -> None:
    (folder / ".gitignore").write_text("*.py\n")
    assert files(folder) == ["a.md", "b.bin"]
    (folder / ".amlignore").write_text("*.bin\nsub/\n")
    assert files(folder) == ["a.md", "score.py"]


def test_a_model_keeps_its_own_name(folder: Path) -> None:
    assert files(folder / "score.py", keep_name=True) == ["score.py"]
    assert files(folder / "sub", keep_name=True) == ["sub/help.py"]


def test_links_inside_are_sent_as_files_and_others_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "same.py").symlink_to("score.py")
    assert "same.py" in files(folder)
    (tmp_path / "secret").write_text("x")
    for target, reason in ((tmp_path / "secret", "out of the folder"), ("sub", "no regular file")):
        (folder / "link").symlink_to(target)
        with pytest.raises(HeadgateError, match=reason):
            files(folder)
        (folder / "link").unlink()


def test_pipes_and_empty_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(HeadgateError, match="no regular file"):
        files(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HeadgateError, match="holds no files"):
        files(tmp_path / "empty")


def test_files_are_measured_by_content(folder: Path) -> None:
    (file,) = _measured(_sources(folder / "score.py", keep_name=False))
    assert file.size == len("score.py")
    assert len(file.sha256) == 64
