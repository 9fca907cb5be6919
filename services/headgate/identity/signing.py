"""Signing keys: Ed25519 pairs, sealed at rest, and the JWTs they sign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from jwt.algorithms import OKPAlgorithm

from headgate.identity.core import SigningKey
from headgate.runtime.vault import SealedWithAnotherKeyError, Vault
from headgate_contracts.errors import ErrorCode, HeadgateError

ALGORITHM = "EdDSA"


def make(vault: Vault, kid: str, now: float) -> SigningKey:
    """A new random key pair; its private half leaves this function sealed."""
    private = Ed25519PrivateKey.generate()
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    jwk = json.loads(OKPAlgorithm.to_jwk(private.public_key()))
    return SigningKey(kid, jwk, vault.seal(_place(kid), raw.hex()), now)


def opened(vault: Vault, key: SigningKey) -> Ed25519PrivateKey:
    """The private half; HeadgateError when the master key is not the one it was sealed with."""
    try:
        raw = bytes.fromhex(vault.unseal(_place(key.kid), key.sealed))
    except SealedWithAnotherKeyError:
        raise HeadgateError(
            ErrorCode.INTERNAL,
            f"the signing key was sealed with another master key than the one in {vault.path}; "
            "put that file back",
        ) from None
    return Ed25519PrivateKey.from_private_bytes(raw)


def sign(private: Ed25519PrivateKey, kid: str, claims: Mapping[str, Any]) -> str:
    """A compact JWT."""
    return jwt.encode(dict(claims), private, algorithm=ALGORITHM, headers={"kid": kid})


def _place(kid: str) -> str:
    return f"signing-key/{kid}"
