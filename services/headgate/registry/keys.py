"""Endpoint keys: their form, their digest, and how they are kept.

``hg_<8 characters: id>_<43 characters: secret>_<6 characters: checksum>``. The checksum tells a
mistyped key without a look-up and lets scanners find leaked ones; the prefix says whose it is.
Routers get the digest only: a fast hash is right for random secrets of 256 bits. The key itself
is sealed with a master key outside the database, because ``get-credentials`` shows it again.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from pathlib import Path

from headgate.registry.records import StoredKey
from headgate.runtime import vault
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import KeyType

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARS, _SECRET_CHARS, _CHECK_CHARS = 8, 43, 6
_ID_BYTES, _SECRET_BYTES = 6, 32
ENTROPY_BYTES = _ID_BYTES + _SECRET_BYTES
_OURS = re.compile(r"hg_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}\Z")


def make_key(entropy: bytes) -> str:
    """A key from :data:`ENTROPY_BYTES` random bytes."""
    identity = _base62(entropy[:_ID_BYTES], _ID_CHARS)[-_ID_CHARS:]
    secret = _base62(entropy[_ID_BYTES:], _SECRET_CHARS)
    head = f"hg_{identity}_{secret}"
    return f"{head}_{_base62(zlib.crc32(head.encode()).to_bytes(4, 'big'), _CHECK_CHARS)}"


def key_id(key: str) -> str:
    """A name for the key that tells nothing of it: its own id, or the start of its digest."""
    match = _OURS.match(key)
    return match[1] if match else digest(key)[:_ID_CHARS]


def digest(key: str) -> str:
    """SHA-256 of the whole key, hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def _base62(data: bytes, chars: int) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 62)
        text = _DIGITS[digit] + text
    return text.rjust(chars, "0")


class Vault:
    """Makes, seals and opens endpoint keys."""

    def __init__(self, sealing: vault.Vault) -> None:
        self._sealing = sealing

    @classmethod
    def open(cls, keys_dir: Path) -> Vault:
        """The vault of a data folder; raises HeadgateError when its master key is damaged."""
        return cls(vault.Vault.open(keys_dir))

    def fresh(self, endpoint: str, key_type: KeyType) -> StoredKey:
        """A new random key of an endpoint."""
        return self.stored(endpoint, key_type, make_key(secrets.token_bytes(ENTROPY_BYTES)))

    def stored(self, endpoint: str, key_type: KeyType, key: str) -> StoredKey:
        """A key as it is kept. The seal holds for this endpoint and this place only."""
        sealed = self._sealing.seal(_place(endpoint, key_type), key)
        return StoredKey(id=key_id(key), sha256=digest(key), sealed=sealed)

    def opened(self, endpoint: str, key_type: KeyType, stored: StoredKey) -> str:
        """The key itself; HeadgateError when the master key is not the one it was sealed with."""
        try:
            return self._sealing.unseal(_place(endpoint, key_type), stored.sealed)
        except vault.SealedWithAnotherKeyError:
            raise HeadgateError(
                ErrorCode.INTERNAL,
                f"the {key_type} key of {endpoint!r} was sealed with another master key than the "
                f"one in {self._sealing.path}; put that file back, or regenerate both keys",
                target=key_type,
            ) from None


def _place(endpoint: str, key_type: KeyType) -> str:
    return f"{endpoint}/{key_type}"
