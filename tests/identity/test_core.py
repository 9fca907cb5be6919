"""Which keys sign and which are shown, as time goes by."""

from __future__ import annotations

from headgate.identity import core
from headgate.identity.core import Installation, SigningKey
from headgate_contracts.identity import (
    CONTROL_AUDIENCE,
    AccessToken,
    Grant,
    ManagedIdentity,
    Role,
)

DAY_S = 86_400.0
INSTALLATION = Installation("00000000-0000-0000-0000-000000000001")


def key(day: float) -> SigningKey:
    return SigningKey(f"k{day:g}", {"kty": "OKP"}, "sealed", day * DAY_S)


def test_the_newest_key_signs_for_thirty_days() -> None:
    keys = [key(0), key(20)]
    assert core.signer([], 0) is None
    assert core.signer(keys, 21 * DAY_S) == keys[1]
    assert core.signer(keys, 49.9 * DAY_S) == keys[1]
    assert core.signer(keys, 50 * DAY_S) is None


def test_a_key_is_shown_until_the_last_token_that_it_signed_has_expired() -> None:
    keys = [key(0), key(30), key(60)]
    assert core.retired(keys, 395 * DAY_S) == []
    assert core.retired(keys, 396 * DAY_S) == [keys[0]]
    assert core.retired([key(0)], 9_999 * DAY_S) == []


def test_trust_names_what_is_revoked_only_while_it_could_be_shown() -> None:
    tokens = [
        AccessToken(id="a", name="a", subject="a", expires_at=100.0, revoked_at=5.0),
        AccessToken(id="b", name="b", subject="b", expires_at=300.0, revoked_at=5.0),
        AccessToken(id="c", name="c", subject="c", expires_at=300.0),
    ]
    trust = core.trust(INSTALLATION, [key(0), key(1)], tokens, (), now=200.0)
    assert [each.id for each in trust.revoked] == ["b"]
    assert [each.kid for each in trust.issuers[0].keys] == ["k1", "k0"]


def test_audiences_are_known_in_all_of_azures_spellings() -> None:
    for text in (CONTROL_AUDIENCE, f"{CONTROL_AUDIENCE}/", f"{CONTROL_AUDIENCE}/.default"):
        assert core.audience_of(text) == CONTROL_AUDIENCE
    for text in ("", "https://elsewhere.example", "headgate:endpoint:shop"):
        assert core.audience_of(text) is None


def test_an_instance_gets_the_identity_that_it_means() -> None:
    system = core.managed(INSTALLATION, "local", "shop", "system", None)
    stored = [ManagedIdentity(workspace="local", name=name) for name in ("one", "two")]
    named = [core.managed(INSTALLATION, "local", each.name, "user", each) for each in stored]
    assert system is not None
    one, two = named
    assert one is not None and two is not None
    assert core.chosen({}, system, [one, two]) == system
    assert core.chosen({}, None, [one]) == one
    assert core.chosen({}, None, [one, two]) is None
    assert core.chosen({"client_id": two.client_id}, system, [one, two]) == two
    assert core.chosen({"principal_id": one.principal_id}, system, [one, two]) == one
    assert core.chosen({"name": "/s/x/userAssignedIdentities/Two"}, system, [one, two]) == two
    assert core.chosen({"client_id": "nobody"}, system, [one, two]) is None


def test_a_token_is_for_whoever_owns_all_of_its_workspaces() -> None:
    grants = (Grant(workspace="a", role=Role.READER), Grant(workspace="b", role=Role.OWNER))
    assert core.is_within(grants, ("a", "b", "c"))
    assert core.is_within(grants, ("*",))
    assert not core.is_within(grants, ("a",))
