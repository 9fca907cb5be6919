"""What ``headgate login`` keeps: an address with its token, in a file of its owner's alone."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from pathlib import Path

from headgate.runtime.files import private_dir, write_atomic
from headgate.runtime.settings import config_dir
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError

DEFAULT_WORKSPACE = "local"
FILE_BYTES_MAX = limits.TOKEN_CHARS_MAX + 8 * 1024


@dataclass(frozen=True, slots=True)
class Login:
    """One stored login."""

    url: str
    token: str = field(repr=False)
    ca: Path | None = None
    workspace: str = DEFAULT_WORKSPACE


def path() -> Path:
    """Where the login is kept."""
    return config_dir() / "login.json"


def save(login: Login) -> Path:
    """Keep a login instead of the one before; where it lies."""
    told = {
        "url": login.url,
        "ca": str(login.ca.absolute()) if login.ca else "",
        "workspace": login.workspace,
        "token": login.token,
    }
    private_dir(path().parent)
    write_atomic(path(), json.dumps(told, indent=2) + "\n")
    return path()


def load() -> Login | None:
    """The stored login; None without one. Raises HeadgateError for a file that is not safe."""
    if not path().exists():
        return None
    try:
        told = json.loads(read_private(path(), FILE_BYTES_MAX))
        return Login(
            url=str(told["url"]),
            token=str(told["token"]),
            ca=Path(told["ca"]) if told.get("ca") else None,
            workspace=str(told.get("workspace") or DEFAULT_WORKSPACE),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED, f"{path()} is no login; run 'headgate login' again"
        ) from None


def forget() -> bool:
    """Remove the stored login; whether there was one."""
    is_there = path().exists()
    path().unlink(missing_ok=True)
    return is_there


def read_token(file: Path) -> str:
    """A token from a file that nobody else can read."""
    return read_private(file, limits.TOKEN_CHARS_MAX).strip()


def read_private(file: Path, bytes_max: int) -> str:
    """A text from a file that nobody else can read."""
    try:
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):  # a pipe: <(pass headgate)
            raise HeadgateError(ErrorCode.UNAUTHORIZED, f"{file} is no file with a token")
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise HeadgateError(
                ErrorCode.FORBIDDEN,
                f"{file} can be read by others (mode {stat.S_IMODE(mode):04o}); "
                f"run: chmod 600 {file}",
            )
        with file.open("rb") as stream:
            return stream.read(bytes_max).decode("ascii")
    except FileNotFoundError:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED, f"the token file {file} does not exist"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED, f"the token file {file} cannot be read: {error}"
        ) from None
