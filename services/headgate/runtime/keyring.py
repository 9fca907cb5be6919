"""The identities on the bus: keys made on first start, and credentials derived from them.

The private nats-server runs in operator mode: the operator signs two accounts (``APP`` for all of
our traffic, ``SYS`` for the server's own), and the ``APP`` account signs one user per service and
one bearer token per worker instance. Only seeds are kept; every JWT is made anew at start, so that
credentials always say what this version's table (:mod:`headgate.runtime.permissions`) says.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

from headgate.runtime.files import PRIVATE_FILE, private_dir, write_atomic
from headgate.runtime.permissions import (
    SERVICES,
    USER_INFO,
    Permissions,
    missing,
    permissions,
    worker_permissions,
)
from headgate_contracts.errors import ErrorCode, HeadgateError

Claims = Mapping[str, Any]

UNLIMITED = -1
_APP_SEED = "app.seed"
_PREFIX_OF = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 key pair in NATS form. Its ``repr`` shows the public half only."""

    kind: str
    _seed: bytes

    @classmethod
    def make(cls, kind: str) -> Key:
        return cls(kind, nkeys.encode_seed(os.urandom(32), _PREFIX_OF[kind]))

    @classmethod
    def load(cls, path: Path, kind: str) -> Key:
        """The key in ``path``. Raises FileNotFoundError, or HeadgateError for a damaged file."""
        seed = path.read_bytes().strip()
        path.chmod(PRIVATE_FILE)
        try:
            prefix, raw = nkeys.decode_seed(seed)
            whole = prefix == _PREFIX_OF[kind] and nkeys.encode_seed(raw, prefix) == seed
        except (nkeys.NkeysError, ValueError):
            whole = False
        if not whole:
            raise HeadgateError(
                ErrorCode.INTERNAL,
                f"{path} does not hold a whole {kind} key. Put it back from a backup; or delete "
                f"{path.parent} while Headgate is stopped, and new keys are made",
                target=str(path),
            )
        return cls(kind, seed)

    @classmethod
    def load_or_make(cls, path: Path, kind: str) -> Key:
        """The key in ``path``, made there if the file does not exist."""
        try:
            return cls.load(path, kind)
        except FileNotFoundError:
            key = cls.make(kind)
            write_atomic(path, key.seed + "\n")
            return key

    @property
    def public(self) -> str:
        return str(nkeys.from_seed(self._seed).public_key.decode())

    @property
    def seed(self) -> str:
        return self._seed.decode()

    def sign(self, data: bytes) -> bytes:
        return bytes(nkeys.from_seed(self._seed).sign(data))

    def __repr__(self) -> str:
        return f"Key({self.kind} {self.public})"


def signed_jwt(
    issuer: Key, subject: str, name: str, nats: Claims, *, expires_at: float | None = None
) -> str:
    """A JWT as nats-server reads it: ``nats`` are the claims of its kind (version 2)."""
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": issuer.public,
        "name": name,
        "sub": subject,
        "nats": {**nats, "version": 2},
    }
    if expires_at is not None:
        claims["exp"] = math.ceil(expires_at)
    digest = hashlib.sha256(_compact(claims)).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = _base64url(_compact({"typ": "JWT", "alg": "ed25519-nkey"}))
    signed = head + b"." + _base64url(_compact(claims))
    return (signed + b"." + _base64url(issuer.sign(signed))).decode()


def _compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def user_claims(allowed: Permissions, *, bearer: bool = False) -> dict[str, Any]:
    """The claims of a user. Limits not named would be zero, so each is said to be unlimited."""
    claims: dict[str, Any] = {
        "type": "user",
        "subs": UNLIMITED,
        "data": UNLIMITED,
        "payload": UNLIMITED,
        "bearer_token": bearer,
        "allowed_connection_types": ["STANDARD"],
        "pub": {"allow": list(allowed.say)},
        "sub": {"allow": list(allowed.hear)},
    }
    if allowed.responses_max:
        claims["resp"] = {
            "max": allowed.responses_max,
            "ttl": int(allowed.response_ttl_s * 1e9),
        }
    return claims


def _account_claims(*, jetstream: bool) -> dict[str, Any]:
    limits: dict[str, Any] = dict.fromkeys(
        ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), UNLIMITED
    )
    limits["wildcards"] = True
    if jetstream:
        stores = ("mem_storage", "disk_storage", "streams", "consumer")
        limits |= dict.fromkeys(stores, UNLIMITED)
        limits["max_bytes_required"] = True  # a full disk gives publishers no error, only silence
    return {"type": "account", "limits": limits}


class Keyring:
    """All keys of one installation. Opening makes what is missing and writes every creds file."""

    def __init__(self, folder: Path, operator: Key, app: Key, sys: Key) -> None:
        self.folder = folder
        self.operator = operator
        self.app = app
        self.sys = sys

    @classmethod
    def open(cls, folder: Path) -> Keyring:
        """The keyring in ``folder`` (``<data>/keys``). Call it under the data folder's lock."""
        private_dir(folder)
        ring = cls(
            folder,
            operator=Key.load_or_make(folder / "operator.seed", "operator"),
            app=Key.load_or_make(folder / _APP_SEED, "account"),
            sys=Key.load_or_make(folder / "sys.seed", "account"),
        )
        for service in SERVICES:
            ring._write_creds(service)
        return ring

    def creds(self, service: str) -> Path:
        """The credentials file of a service, for nats-py's ``user_credentials``."""
        return creds_path(self.folder, service)

    def operator_jwt(self) -> str:
        claims = {"type": "operator", "system_account": self.sys.public}
        return signed_jwt(self.operator, self.operator.public, "headgate", claims)

    def account_jwts(self) -> dict[str, str]:
        """Public key -> JWT of both accounts, as the server preloads them."""
        app = signed_jwt(self.operator, self.app.public, "APP", _account_claims(jetstream=True))
        sys = signed_jwt(self.operator, self.sys.public, "SYS", _account_claims(jetstream=False))
        return {self.app.public: app, self.sys.public: sys}

    def _write_creds(self, service: str) -> None:
        user = Key.load_or_make(self.folder / f"{service}.seed", "user")
        token = signed_jwt(self.app, user.public, service, user_claims(permissions(service)))
        write_atomic(self.creds(service), _CREDS.format(jwt=token, seed=user.seed))


_CREDS = """\
-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


def creds_path(folder: Path, service: str) -> Path:
    """Where the credentials of a service lie in a keys folder."""
    return folder / f"{service}.creds"


def mint_worker_token(
    folder: Path,
    endpoint: str,
    deployment: str,
    instance: str,
    *,
    expires_at: float,
    lanes: Sequence[str] = (),
) -> str:
    """A bearer JWT for the process of one instance: whoever holds it connects as that instance.

    ``lanes`` are the instance ids that share the process (``WORKER_COUNT``); by default only
    ``instance`` itself. After ``expires_at`` (Unix seconds) the server closes the connection; the
    token file must hold a newer token by then.
    """
    allowed = worker_permissions(endpoint, deployment, lanes or (instance,))
    return signed_jwt(
        Key.load(folder / _APP_SEED, "account"),
        Key.make("user").public,  # a bearer signs nothing, so the private half is not kept
        f"worker {endpoint}/{deployment}/{instance}",
        user_claims(allowed, bearer=True),
        expires_at=expires_at,
    )


def admin_token(folder: Path) -> str:
    """The token that opens the gateway, made on first use in ``<keys>/admin.token``."""
    path = private_dir(folder) / "admin.token"
    try:
        path.chmod(PRIVATE_FILE)
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = f"hga_{secrets.token_urlsafe(32)}"
        write_atomic(path, token + "\n")
    return token


async def self_check(request: Callable[[str, bytes], Awaitable[bytes]], service: str) -> None:
    """Fails when the bus grants this connection less than the service's row, and says what.

    ``request`` asks a subject and returns the answer's payload. Without this check a subject that
    is not granted shows up much later, as a request that nobody seems to answer.
    """
    granted = json.loads(await request(USER_INFO, b""))["data"].get("permissions") or {}
    lacking = missing(permissions(service), granted)
    if lacking:
        raise HeadgateError(
            ErrorCode.FORBIDDEN,
            f"the bus does not let {service} {', '.join(lacking)}: its credentials were made by "
            f"another version or for another service. Restart `headgate up`, which makes them "
            f"anew, and copy {service}.creds to where this service runs",
            target=lacking[0].split(" ", 1)[1],
        )
