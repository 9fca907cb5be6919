"""Small files are whole and, where they hold secrets, private."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from headgate.runtime.files import private_dir, write_atomic


def test_a_file_is_private_unless_said_otherwise(data_dir: Path) -> None:
    """Whatever the umask and the rights of the file that was there before."""
    path = data_dir / "secret"
    path.write_text("old")
    path.chmod(0o666)
    write_atomic(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomic(path, "public", mode=0o644)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_text_and_no_rubbish(data_dir: Path) -> None:
    path = data_dir / "secret"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\udcff")
    assert path.read_text() == "old"
    assert list(data_dir.iterdir()) == [path]


def test_a_private_folder_is_made_private_again(data_dir: Path) -> None:
    folder = data_dir / "a" / "b"
    assert private_dir(folder) == folder
    folder.chmod(0o777)
    private_dir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
