"""Small files that must never be half-written, and secrets that only their owner may read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIR = 0o700
PUBLIC_FILE = 0o644


def private_dir(path: Path) -> Path:
    """``path`` as a folder of its owner's alone; rights that were wider are taken back."""
    path.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
    path.chmod(PRIVATE_DIR)
    return path


def write_atomic(path: Path, text: str, *, mode: int = PRIVATE_FILE) -> None:
    """Replaces the file in one step: after a crash it holds the old text or the new, whole.

    The file is created with its final rights, so that a secret is never readable in between.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)  # the umask may have taken rights away
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # makes the new name itself durable
    finally:
        os.close(folder)
