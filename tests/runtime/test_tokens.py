"""Which tokens count: a matrix of everything that can be wrong with one."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from headgate.runtime.tokens import Principal, check, derived_uuid, read_grant
from headgate_contracts import limits
from headgate_contracts.errors import ErrorCode, HeadgateError
from headgate_contracts.identity import (
    CONTROL_AUDIENCE,
    DATA_AUDIENCE,
    Grant,
    Issuer,
    Revocation,
    Role,
    StorageScope,
    Trust,
    VerificationKey,
)

NOW = 1_800_000_000.0
OURS = "https://headgate.internal/one"
THEIRS = "https://login.example"
KEY = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()
FOREIGN = rsa.generate_private_key(65_537, 2_048)


def public(key: Ed25519PrivateKey) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(OKPAlgorithm.to_jwk(key.public_key()))
    return found


TRUST = Trust(
    issuers=(
        Issuer(
            issuer=OURS,
            is_ours=True,
            keys=(VerificationKey(kid="k1", algorithm="EdDSA", jwk=public(KEY)),),
        ),
        Issuer(
            issuer=THEIRS,
            audiences=("app",),
            roles_claim="groups",
            keys=(
                VerificationKey(
                    kid="r1",
                    algorithm="RS256",
                    jwk=json.loads(RSAAlgorithm.to_jwk(FOREIGN.public_key())),
                ),
            ),
        ),
    ),
    revoked=(Revocation(id="gone", until=NOW + 10),),
)


def claims(**changes: Any) -> dict[str, Any]:
    said = {
        "iss": OURS,
        "sub": "ci",
        "aud": [CONTROL_AUDIENCE, DATA_AUDIENCE],
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 100,
        "jti": "t1",
        "roles": ["local/operator", "other/reader", "nonsense", "x/emperor"],
    } | changes
    return {name: value for name, value in said.items() if value is not None}


def signed(kid: Any = "k1", key: Any = KEY, algorithm: str = "EdDSA", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers={"kid": kid})


def checked(token: str, audience: str = CONTROL_AUDIENCE, now: float = NOW) -> Principal:
    return check(token, TRUST, audiences=(audience,), now=now)


def refusal(token: str, **how: Any) -> str:
    with pytest.raises(HeadgateError) as caught:
        checked(token, **how)
    assert caught.value.error.code is ErrorCode.UNAUTHORIZED
    text = str(caught.value)
    assert not any(len(part) > 8 and part in text for part in token.split("."))
    return text


def test_a_good_token_says_who_it_speaks_for() -> None:
    found = checked(signed())
    assert found.subject == "ci"
    assert found.grants == (
        Grant(workspace="local", role=Role.OPERATOR),
        Grant(workspace="other", role=Role.READER),
    )
    assert (found.token_id, found.expires_at, found.is_ours) == ("t1", NOW + 100, True)
    assert checked(signed(), DATA_AUDIENCE) == found


def test_roles_hold_in_their_workspace_and_with_a_star_in_all() -> None:
    found = checked(signed())
    assert found.role_in("local") is Role.OPERATOR
    assert found.role_in("third") is None
    assert checked(signed(roles=["*/admin", "local/reader"])).role_in("local") is Role.ADMIN
    assert checked(signed(roles="local/admin")).grants == ()
    assert checked(signed(roles=None)).grants == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"exp": NOW - 6}, "expired"),
        ({"nbf": NOW + 6}, "only later"),
        ({"iat": NOW + 6}, "only later"),
        ({"iss": "https://headgate.internal/two"}, "another issuer"),
        ({"iss": THEIRS}, "another issuer"),
        ({"aud": "https://elsewhere.example"}, "another audience"),
        ({"aud": "headgate:endpoint:shop"}, "another audience"),
        ({"aud": None}, "'aud'"),
        ({"aud": 7}, "audience"),
        ({"exp": None}, "'exp'"),
        ({"iat": None}, "'iat'"),
        ({"sub": None}, "'sub'"),
        ({"iss": None}, "'iss'"),
        ({"exp": "tomorrow"}, ""),
        ({"exp": 1e300}, "no time"),
        ({"jti": "gone"}, "revoked"),
        ({"via": "gone"}, "revoked"),
    ],
)
def test_what_a_token_says_must_hold(changes: dict[str, Any], word: str) -> None:
    assert word in refusal(signed(**changes))


def test_clocks_may_differ_by_a_little() -> None:
    assert checked(signed(exp=NOW - limits.TOKEN_LEEWAY_S + 1)).subject == "ci"
    assert checked(signed(nbf=NOW + limits.TOKEN_LEEWAY_S - 1)).subject == "ci"


@pytest.mark.parametrize("kid", ["nobody", "", "../../etc/passwd", "' OR 1=1 --", "k1\0"])
def test_a_key_id_is_looked_up_and_nothing_else(kid: str) -> None:
    assert "no trusted issuer" in refusal(signed(kid=kid))


def test_a_key_id_that_is_no_text_is_no_key() -> None:
    head = base64.urlsafe_b64encode(json.dumps({"alg": "EdDSA", "kid": {"k": 1}}).encode())
    assert refusal(head.decode().rstrip("=") + "." + signed().split(".", 1)[1])


def test_a_strangers_signature_is_wrong() -> None:
    assert "signature" in refusal(signed(key=STRANGER))


def test_a_changed_claim_breaks_the_signature() -> None:
    head, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(roles=["*/admin"])).encode()).rstrip(b"=")
    assert "signature" in refusal(f"{head}.{body.decode()}.{signature}")


def test_the_token_does_not_choose_the_algorithm() -> None:
    unsigned = jwt.encode(claims(), None, algorithm="none", headers={"kid": "k1"})
    assert refusal(unsigned)
    raw = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    with_public_key = jwt.encode(claims(), raw, algorithm="HS256", headers={"kid": "k1"})
    assert refusal(with_public_key)
    other_kind = signed(kid="k1", key=FOREIGN, algorithm="RS256")
    assert refusal(other_kind)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "e30.e30.", "\0", "é.é.é"])
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token)


def test_a_token_has_a_largest_size() -> None:
    assert "longer than" in refusal(signed(name="x" * 16_384))


def test_another_issuers_tokens_count_with_its_own_audience_and_claim() -> None:
    token = signed("r1", FOREIGN, "RS256", iss=THEIRS, aud="app", groups=["local/owner"])
    found = checked(token)
    assert found.role_in("local") is Role.OWNER
    assert not found.is_ours
    foreign = signed("r1", FOREIGN, "RS256", iss=THEIRS, aud="another-app")
    assert "another audience" in refusal(foreign)
    as_ours = signed("r1", FOREIGN, "RS256", iss=OURS)
    assert "another issuer" in refusal(as_ours)


def test_only_we_open_storage() -> None:
    scope = {"workspace": "local", "container": "c", "prefix": "", "permissions": "rl"}
    assert checked(signed(storage=scope)).storage == StorageScope(**scope)
    theirs = signed("r1", FOREIGN, "RS256", iss=THEIRS, aud="app", storage=scope)
    assert checked(theirs).storage is None
    assert "storage" in refusal(signed(storage={"workspace": 1}))


def test_a_grant_is_a_workspace_and_a_role() -> None:
    assert read_grant("team.a/owner") == Grant(workspace="team.a", role=Role.OWNER)
    for text in ("owner", "/owner", "local/", "local/king", ""):
        assert read_grant(text) is None


def test_ids_follow_from_words() -> None:
    assert derived_uuid("a", "b") == derived_uuid("a", "b") != derived_uuid("a", "c")
