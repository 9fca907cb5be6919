"""Seals secrets at rest: AES-256-GCM with a master key that lies outside every database.

What is sealed for one place opens at that place only, so a row that is copied elsewhere is worth
nothing there.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts.errors import ErrorCode, HeadgateError

_MASTER_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = "1."  # of sealed texts; a later form gets another number


class SealedWithAnotherKeyError(Exception):
    """The text was sealed with another master key, for another place, or is damaged."""


class Vault:
    """Seals and opens texts. The master key is a private file, made on first use."""

    def __init__(self, master: bytes, path: Path) -> None:
        self._cipher = AESGCM(master)
        self.path = path

    @classmethod
    def open(cls, keys_dir: Path) -> Vault:
        """The vault of a data folder; raises HeadgateError when its master key is damaged."""
        path = private_dir(keys_dir) / "master.key"
        if not path.exists():
            write_atomic(path, secrets.token_hex(_MASTER_BYTES) + "\n")
        try:
            master = bytes.fromhex(path.read_text().strip())
        except ValueError:
            master = b""
        if len(master) != _MASTER_BYTES:
            raise HeadgateError(
                ErrorCode.INTERNAL,
                f"{path} does not hold a whole master key; put it back from a backup",
                target=str(path),
            )
        return cls(master, path)

    def seal(self, place: str, secret: str) -> str:
        """``secret`` as it may be stored. ``place`` names where, for ever."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, secret.encode(), place.encode())
        return _FORMAT + base64.b64encode(nonce + sealed).decode()

    def unseal(self, place: str, sealed: str) -> str:
        """The secret; raises SealedWithAnotherKeyError."""
        try:
            raw = base64.b64decode(sealed.removeprefix(_FORMAT), validate=True)
            nonce, text = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, text, place.encode()).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise SealedWithAnotherKeyError from None
