"""Which local files a YAML file may name.

A YAML file can come from anybody, and what it names is uploaded. So a path is relative, and what
it resolves to (links followed) lies below the YAML file's own folder, or below the folder in
which the command was started: Azure's examples name ``../../model-1`` and are started from the
folder above. The second does not count where it would allow nearly everything, that is, when the
command is started in the home folder or above it. ``--allow-outside`` lifts the rule.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path


class LocalPathError(Exception):
    """The path may not be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class LocalPaths:
    """Resolves the paths of one YAML file."""

    folder: Path
    started_in: Path
    home: Path
    allow_outside: bool = False

    @classmethod
    def of(cls, file: Path, *, allow_outside: bool = False) -> LocalPaths:
        """The rule for ``file``, with the process's current folder and home."""
        return cls(file.parent, Path.cwd(), Path.home(), allow_outside)

    def folder_at(self, text: str) -> Path:
        """An existing folder. Raises LocalPathError."""
        path = self.any_at(text)
        if not path.is_dir():
            raise LocalPathError(f"{text!r} is a file, but a folder is expected")
        return path

    def file_at(self, text: str) -> Path:
        """An existing regular file. Raises LocalPathError."""
        path = self.any_at(text)
        if path.is_dir():
            raise LocalPathError(f"{text!r} is a folder, but a file is expected")
        return path

    def any_at(self, text: str) -> Path:
        """An existing folder or regular file, resolved. Raises LocalPathError."""
        if not text.strip() or "\0" in text:
            raise LocalPathError("a path is expected")
        if "://" in text:
            raise LocalPathError(
                f"{text!r} is an address; only local files and folders can be uploaded"
            )
        if Path(text).is_absolute() and not self.allow_outside:
            raise LocalPathError(
                f"{text!r} is absolute; write it relative to this file, or pass --allow-outside"
            )
        try:
            path = (self.folder / text).resolve(strict=True)
            mode = path.stat().st_mode
        except FileNotFoundError:
            raise LocalPathError(f"{text!r} does not exist (looked in {self.folder})") from None
        except (OSError, RuntimeError) as error:  # unreadable, too long, or a loop of links
            reason = getattr(error, "strerror", None) or "a loop of links"
            raise LocalPathError(f"{text!r} cannot be read: {reason}") from None
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise LocalPathError(f"{text!r} is neither a file nor a folder")
        if not self.allow_outside and not self._is_inside(path):
            raise LocalPathError(self._outside(text, path))
        return path

    def _is_inside(self, path: Path) -> bool:
        if path.is_relative_to(self.folder.resolve()):
            return True
        start = self.started_in.resolve()
        return start in path.parents and not self.home.resolve().is_relative_to(start)

    def _outside(self, text: str, path: Path) -> str:
        link = " by a link" if (self.folder / text).absolute() != path and ".." not in text else ""
        return (
            f"{text!r} leads{link} out of the folder of this file; start the command in a folder "
            "that holds both, or pass --allow-outside"
        )
