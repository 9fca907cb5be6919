"""The registry's decisions as pure functions: invariants under any sequence of commands."""

from __future__ import annotations

import ast
import string
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from headgate.registry import core, deployments, endpoints, traffic
from headgate.registry.core import DEPLOYMENT_LIFE, ENDPOINT_LIFE, Happening
from headgate.registry.keys import ENTROPY_BYTES, Vault, digest, key_id, make_key
from headgate.registry.records import Group, Keys, Moment, Outcome, StoredKey
from headgate_contracts import limits, registry
from headgate_contracts.errors import Blame, ErrorCode, HeadgateError, WireError
from headgate_contracts.resources import (
    DeploymentSpec,
    EndpointSpec,
    KeyType,
    OperationStatus,
    ProvisioningState,
)

S = ProvisioningState
REGISTRY = Path(core.__file__).parent
PURE = ("core", "records", "traffic", "endpoints", "deployments", "assets", "batch")
KEYS = Keys(StoredKey("a", "1" * 64, "x"), StoredKey("b", "2" * 64, "y"))
NAMES = ("blue", "green", "red")
WHY = WireError(code=ErrorCode.USER_SCRIPT_INIT_FAILED, message="init() failed")


@pytest.mark.parametrize("module", PURE)
def test_decisions_are_pure(module: str) -> None:
    """No async, clock, randomness, logs or storage in any of them."""
    tree = ast.parse((REGISTRY / f"{module}.py").read_text())
    asynchronous = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not any(isinstance(node, asynchronous) for node in ast.walk(tree))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom | ast.Import)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + [alias.name for alias in node.names if isinstance(node, ast.Import)]
    }
    forbidden = {"time", "random", "secrets", "logging", "asyncio", "os", "socket", "subprocess"}
    assert not forbidden & imported
    assert imported <= sys.stdlib_module_names | {"headgate_contracts", "headgate"}


def test_lifecycles_reach_every_state_and_an_end_from_each() -> None:
    """Whatever state a resource is in, it can still be deleted."""
    for life, skipped in (
        (ENDPOINT_LIFE, set(S) - {S.SUCCEEDED, S.DELETING}),
        (DEPLOYMENT_LIFE, {S.CANCELED}),
    ):
        states = set(S) - skipped
        assert {after for after in life.values() if after is not None} == states
        assert all(
            life.get((state, Happening.DELETE)) is S.DELETING for state in states - {S.DELETING}
        )
        assert [key for key, after in life.items() if after is None] == [
            (S.DELETING, Happening.GONE)
        ]


class Life(RuleBasedStateMachine):
    """One endpoint and whatever is done to it; a refused command must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.group: Group | None = None
        self.revision = 0
        self.operations: dict[str, Any] = {}

    @initialize()
    def begin_with_two_ready_deployments(self) -> None:
        """Or chance would hardly ever get as far as traffic."""
        self._put_endpoint({}, {}, "")
        for name in NAMES[:2]:
            self.put_deployment(name, 1, {}, "1")
            self.report(name, "succeeded", False, 100)

    def apply(self, decide: Any) -> None:
        before = self.group
        moment = Moment(
            now=float(self.revision), revision=self.revision + 1, dice=str(self.revision)
        )
        try:
            outcome: Outcome = decide(before, moment)
        except HeadgateError as error:
            assert error.error.blame is Blame.CALLER
            return
        self.revision += 1
        self.group = outcome.group
        for operation in outcome.operations:
            known = self.operations.get(operation.id)
            assert (
                known is None or known.status is OperationStatus.IN_PROGRESS or known == operation
            )
            self.operations[operation.id] = operation
        if outcome.events:
            assert before != self.group
            assert all(event.revision == moment.revision for event in outcome.events)
        said = [(event.TYPE, event.subject()) for event in outcome.events]
        assert len(set(said)) == len(said)

    @rule(
        shares=st.dictionaries(st.sampled_from((*NAMES, "Blue", "absent")), st.integers(0, 100)),
        mirror=st.dictionaries(st.sampled_from(NAMES), st.integers(0, 60), max_size=2),
        about=st.sampled_from(("", "x")),
    )
    def put_endpoint(self, shares: dict[str, int], mirror: dict[str, int], about: str) -> None:
        self._put_endpoint(shares, mirror, about)

    @rule(first=st.sampled_from(NAMES), second=st.sampled_from(NAMES), share=st.integers(0, 100))
    def split(self, first: str, second: str, share: int) -> None:
        shares = {first: 100} if first == second else {first: share, second: 100 - share}
        self._put_endpoint(shares, {}, "")

    def _put_endpoint(self, shares: dict[str, int], mirror: dict[str, int], about: str) -> None:
        spec = EndpointSpec(name="digits", traffic=shares, mirror_traffic=mirror, description=about)
        command = registry.PutEndpoint(workspace="w", spec=spec)
        self.apply(lambda group, now: endpoints.put(group, command, KEYS, now))

    @rule(dice=st.integers(1, 6))
    def delete_endpoint(self, dice: int) -> None:
        if dice < 6:
            return
        command = registry.DeleteEndpoint(workspace="w", name="digits")
        self.apply(lambda group, now: endpoints.delete(group, command, now))

    @rule(
        name=st.sampled_from(NAMES),
        count=st.integers(0, 2),
        tags=st.sampled_from(({}, {"a": "b"})),
        variable=st.sampled_from(("1", "2")),
    )
    def put_deployment(self, name: str, count: int, tags: dict[str, str], variable: str) -> None:
        spec = DeploymentSpec(
            name=name,
            endpoint_name="digits",
            instance_count=count,
            tags=tags,
            environment_variables={"A": variable},
        )
        command = registry.PutDeployment(workspace="w", spec=spec)
        wanted = deployments.Resolved(spec)
        self.apply(lambda group, now: deployments.put(group, command, wanted, now))

    @rule(name=st.sampled_from(NAMES))
    def delete_deployment(self, name: str) -> None:
        command = registry.DeleteDeployment(workspace="w", endpoint="digits", name=name)
        self.apply(lambda group, now: deployments.delete(group, command, now))

    @rule(
        name=st.sampled_from(NAMES),
        outcome=st.sampled_from(("progressing", "succeeded", "succeeded", "failed", "gone")),
        late=st.booleans(),
        percent=st.floats(-10, 200),
    )
    def report(self, name: str, outcome: Any, late: bool, percent: float) -> None:
        record = self.group.deployments.get(name) if self.group else None
        generation = record.value.generation - late if record else 1
        word = registry.ReportDeployment(
            workspace="w",
            endpoint="digits",
            name=name,
            generation=generation,
            outcome=outcome,
            percent_complete=percent,
            error=WHY if outcome == "failed" else None,
        )
        before = self.group
        self.apply(lambda group, now: deployments.report(group, word, now))
        if late:
            assert self.group == before

    @rule(key_type=st.sampled_from(KeyType), number=st.integers(0, 9))
    def regenerate(self, key_type: KeyType, number: int) -> None:
        command = registry.RegenerateKey(workspace="w", endpoint="digits", key_type=key_type)
        fresh = StoredKey("c", f"{self.revision:064}", "z")
        self.apply(lambda group, now: endpoints.regenerate_key(group, command, fresh, None, now))

    @invariant()
    def traffic_is_whole_and_goes_to_deployments_that_were_ready(self) -> None:
        if self.group is None or self.group.endpoint.is_deleting:
            return
        spec = self.group.endpoint.value.spec
        assert sum(spec.traffic.values()) in (0, 100)
        assert 0 not in spec.traffic.values()
        assert not set(spec.traffic) & set(spec.mirror_traffic)
        assert len(spec.mirror_traffic) <= 1
        assert all(share <= limits.MIRROR_PERCENT_MAX for share in spec.mirror_traffic.values())
        for name in (*spec.traffic, *spec.mirror_traffic):
            assert self.group.deployments[name].was_ready
            assert not self.group.deployments[name].is_deleting

    @invariant()
    def a_resource_is_in_transition_while_its_operation_runs_and_only_then(self) -> None:
        records = [] if self.group is None else list(self.group.deployments.values())
        for record in records:
            running = record.operation.status is OperationStatus.IN_PROGRESS
            assert running is not record.state.is_final
            assert self.operations[record.operation.id] == record.operation
        going = {id for id, each in self.operations.items() if each.status == "InProgress"}
        owned = {each.operation.id for each in records}
        owned |= {self.group.endpoint.operation.id} if self.group else set()
        assert going <= owned

    @invariant()
    def a_deleting_endpoint_has_only_deleting_deployments(self) -> None:
        if self.group is not None and self.group.endpoint.is_deleting:
            assert self.group.deployments
            assert all(each.is_deleting for each in self.group.deployments.values())

    @invariant()
    def an_error_is_shown_exactly_while_failed(self) -> None:
        for record in self.group.deployments.values() if self.group else ():
            assert (record.value.error is not None) is (record.state is S.FAILED)

    @invariant()
    def the_route_leads_only_to_what_is_there(self) -> None:
        route = core.route(self.group)
        if route is None:
            return
        assert self.group is not None
        assert {*route.traffic, *route.mirror_traffic} <= set(route.deployments)
        assert not any(self.group.deployments[name].is_deleting for name in route.deployments)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.dictionaries(st.text(string.ascii_letters, min_size=1, max_size=3), st.integers(0, 100)))
def test_normalising_traffic_is_idempotent_or_refused(weights: dict[str, int]) -> None:
    try:
        kept = traffic.normalised(weights, "traffic")
    except HeadgateError:
        assert len({name.lower() for name in weights}) < len(weights)
        return
    assert traffic.normalised(kept, "traffic") == kept
    assert sum(kept.values()) == sum(weights.values())
    assert all(name == name.lower() and weight for name, weight in kept.items())


# --- keys ---


@given(st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES))
def test_keys_have_one_form_whatever_the_dice(entropy: bytes) -> None:
    key = make_key(entropy)
    head, identity, secret, checksum = key.split("_")
    assert (head, len(identity), len(secret), len(checksum)) == ("hg", 8, 43, 6)
    assert set(identity + secret + checksum) <= set(string.ascii_letters + string.digits)
    assert key_id(key) == identity
    endpoints.check_given_key(key, "key")  # what we make, we would also take


def test_the_id_of_a_foreign_key_tells_nothing_of_it() -> None:
    key = "my-own-key-" + "x" * 30
    assert key_id(key) == digest(key)[:8]
    mistyped = make_key(bytes(ENTROPY_BYTES)) + "x"
    assert key_id(mistyped) == digest(mistyped)[:8]


def test_a_seal_holds_for_one_place_only(data_dir: Path) -> None:
    vault = Vault.open(data_dir / "keys")
    stored = vault.stored("digits", KeyType.PRIMARY, "k" * 32)
    assert "k" * 32 not in repr(stored)
    assert vault.opened("digits", KeyType.PRIMARY, stored) == "k" * 32
    assert Vault.open(data_dir / "keys").opened("digits", KeyType.PRIMARY, stored) == "k" * 32
    for endpoint, key_type in (("other", KeyType.PRIMARY), ("digits", KeyType.SECONDARY)):
        with pytest.raises(HeadgateError):
            vault.opened(endpoint, key_type, stored)


def test_the_master_key_is_private_and_a_damaged_one_is_not_replaced(data_dir: Path) -> None:
    Vault.open(data_dir / "keys")
    path = data_dir / "keys" / "master.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("half a k")
    with pytest.raises(HeadgateError) as caught:
        Vault.open(data_dir / "keys")
    assert "backup" in str(caught.value)
    assert path.read_text() == "half a k"
