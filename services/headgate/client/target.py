"""Which Headgate a client talks to, whom it trusts there, and with which token.

An address given by hand wins, then a data folder given by hand, then what ``headgate login`` has
stored; otherwise the usual data folder of a local Headgate tells the address, its certificate
authority and the administrator's token.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headgate.client import logins
from headgate.client.logins import DEFAULT_WORKSPACE, read_token
from headgate_contracts.errors import ErrorCode, HeadgateError

DEFAULT_DATA = Path("~/.headgate")


@dataclass(frozen=True, slots=True)
class Target:
    """One reachable Headgate."""

    url: str
    token: str = field(repr=False)
    ca: Path | None = None
    workspace: str = DEFAULT_WORKSPACE
    origin: str = field(default="", repr=False)
    """Whom the studio asks for, in the gateway's own words."""


def find_target(
    data: Path | None,
    *,
    url: str = "",
    ca: Path | None = None,
    token: str = "",
    token_file: Path | None = None,
    workspace: str = "",
    require_token: bool = True,
    use_login: bool = True,
) -> Target:
    """The Headgate meant by the given values; what is not given is empty. Raises HeadgateError.

    A login counts where no data folder is given, and also for its own address given by hand.
    """
    stored = logins.load() if data is None and use_login else None
    if stored is not None and url.rstrip("/") in ("", stored.url):
        url, ca = stored.url, ca or stored.ca
        token = token or ("" if token_file else stored.token)
        workspace = workspace or stored.workspace
    data = (data or DEFAULT_DATA).expanduser()
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
        why = "is not a file" if ca.exists() else "does not exist"
        raise HeadgateError(ErrorCode.BAD_ARGUMENT, f"the CA file {ca} {why}")
    if not token and token_file is not None:
        token = read_token(token_file)
    if not token and require_token:
        raise HeadgateError(
            ErrorCode.UNAUTHORIZED,
            f"no token for {url}: run 'headgate login --url {url}', set HEADGATE_TOKEN, or name "
            "a file with --token-file",
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise HeadgateError(ErrorCode.UNAUTHORIZED, "the token holds characters no token has")
    return Target(url.rstrip("/"), token, ca, workspace or DEFAULT_WORKSPACE)


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
