"""Which Headgate a client talks to, whom it trusts there, and with which token.

An address given by hand wins; otherwise the data folder of a local Headgate tells the address,
its certificate authority and the administrator's token.
"""

from __future__ import annotations

import ipaddress
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headgate_contracts.errors import ErrorCode, HeadgateError

TOKEN_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Target:
    """One reachable Headgate."""

    url: str
    token: str = field(repr=False)
    ca: Path | None = None
    workspace: str = "local"


def find_target(
    data: Path,
    *,
    url: str = "",
    ca: Path | None = None,
    token: str = "",
    token_file: Path | None = None,
    workspace: str = "local",
) -> Target:
    """The Headgate meant by the given values. Raises HeadgateError."""
    data = data.expanduser()
    local_ca = data / "tls" / "ca.pem"
    if not url:
        running = read_running(data)
        url = str(running["gateway"])
        ca = ca or (Path(running["ca"]) if running.get("ca") else None)
        token_file = token_file or data / "keys" / "admin.token"
    elif ca is None and _is_loopback(url) and local_ca.is_file():
        ca = local_ca
    _check_url(url)
    if ca is not None and not ca.is_file():
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"the CA file {ca} does not exist")
    if not token and token_file is not None:
        token = read_token(token_file)
    if not token:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED,
            f"no token for {url}: set HEADGATE_TOKEN, or name a file with --token-file",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise HeadgateError(ErrorCode.UNAUTHORIZED, "the token holds characters no token has")
    return Target(url.rstrip("/"), token, ca, workspace)


def read_running(data: Path) -> dict[str, Any]:
    """What the Headgate of a data folder wrote about itself when it started."""
    path = data.expanduser() / "run" / "headgate.json"
    try:
        running = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HeadgateError(
            ErrorCode.UNAVAILABLE,
            f"no Headgate is running on {data}: start one with 'headgate up', or name another "
            "with --data or --url",
        ) from None
    except (OSError, ValueError) as error:
        raise HeadgateError(ErrorCode.UNAVAILABLE, f"{path} cannot be read: {error}") from None
    if not isinstance(running, dict) or not isinstance(running.get("gateway"), str):
        raise HeadgateError(ErrorCode.UNAVAILABLE, f"{path} does not name the gateway's address")
    return running


def read_token(path: Path) -> str:
    """A token from a file that nobody else can read."""
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise HeadgateError(
                ErrorCode.FORBIDDEN,
                f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); "
                f"run: chmod 600 {path}",
            )
        with path.open("rb") as stream:
            return stream.read(TOKEN_BYTES_MAX).decode("ascii").strip()
    except FileNotFoundError:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED, f"the token file {path} does not exist"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED, f"the token file {path} cannot be read: {error}"
        ) from None


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"{url!r} is no address; write https://host:port"
        )
    if parts.scheme == "http" and not _is_loopback(url):
        raise HeadgateError(
            ErrorCode.BAD_ARGUMENT, f"{url} would send the token unencrypted; use https"
        )


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
