"""Endpoint keys: their form, their digest, and how they are kept.

``hg_<8 characters: id>_<43 characters: secret>_<6 characters: checksum>``. The checksum tells a
mistyped key without a look-up and lets scanners find leaked ones; the prefix says whose it is.
Routers get the digest only: a fast hash is right for random secrets of 256 bits. The key itself
is sealed with a master key outside the database, because ``get-credentials`` shows it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
import string
import zlib
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from headgate.registry.records import StoredKey
from headgate.runtime.files import private_dir, write_atomic
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.resources import KeyType

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARS, _SECRET_CHARS, _CHECK_CHARS = 8, 43, 6
_ID_BYTES, _SECRET_BYTES = 6, 32
ENTROPY_BYTES = _ID_BYTES + _SECRET_BYTES
_OURS = re.compile(r"hg_([0-9A-Za-z]{8})_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}\Z")

_MASTER_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = "1."  # of sealed keys; a later form gets another number


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
    """Seals and opens keys. The master key is a private file, made on first use."""

    def __init__(self, master: bytes, path: Path) -> None:
        self._cipher = AESGCM(master)
        self._path = path

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

    def fresh(self, endpoint: str, key_type: KeyType) -> StoredKey:
        """A new random key of an endpoint."""
        return self.stored(endpoint, key_type, make_key(secrets.token_bytes(ENTROPY_BYTES)))

    def stored(self, endpoint: str, key_type: KeyType, key: str) -> StoredKey:
        """A key as it is kept. The seal holds for this endpoint and this place only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, key.encode(), _place(endpoint, key_type))
        text = _FORMAT + base64.b64encode(nonce + sealed).decode()
        return StoredKey(id=key_id(key), sha256=digest(key), sealed=text)

    def opened(self, endpoint: str, key_type: KeyType, stored: StoredKey) -> str:
        """The key itself; HeadgateError when the master key is not the one it was sealed with."""
        try:
            raw = base64.b64decode(stored.sealed.removeprefix(_FORMAT), validate=True)
            nonce, sealed = raw[:_NONCE_BYTES], raw[_NONCE_BYTES:]
            return self._cipher.decrypt(nonce, sealed, _place(endpoint, key_type)).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise HeadgateError(
                ErrorCode.INTERNAL,
                f"the {key_type} key of {endpoint!r} was sealed with another master key than the "
                f"one in {self._path}; put that file back, or regenerate both keys",
                target=key_type,
            ) from None


def _place(endpoint: str, key_type: KeyType) -> bytes:
    return f"{endpoint}/{key_type}".encode()
