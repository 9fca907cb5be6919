"""What the forms of quotas, objectives, alert rules and budgets decide, without a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.portal import alert_core, budget_core, objective_core, quota_core
from headgate.portal.core import UNKNOWN
from headgate_contracts.metering import Grain
from headgate_contracts.quotas import Quota, QuotaKind, problem_of
from headgate_contracts.sla import Objective

K = QuotaKind
PLACES = st.sampled_from(["", "*", "echo"])
GIVEN = st.fixed_dictionaries(
    {
        "name": st.just("free-tier"),
        "kind": st.sampled_from(list(K)),
        "limit": st.one_of(st.none(), st.integers(-2, 500), st.just(0.5)),
        "endpoint": PLACES,
        "deployment": PLACES,
        "caller": PLACES,
        "window_s": st.sampled_from([60, 3_600, 86_400]),
    }
)


@given(GIVEN)
def test_a_form_of_a_quota_is_right_or_says_at_which_field_it_is_wrong(
    given: dict[str, object],
) -> None:
    found = quota_core.problems(given, taken=[])
    shown = quota_core.fields_of(given["kind"], str(given["endpoint"]))  # type: ignore[arg-type]
    assert set(found) <= shown  # nobody is told of a field that is not there
    if not found:
        quota = quota_core.quota_of("local", given)
        assert problem_of(quota) is None
        assert quota_core.meaning(quota)


@given(GIVEN)
def test_what_a_form_sends_comes_back_into_it(given: dict[str, object]) -> None:
    if quota_core.problems(given, taken=[]):
        return
    quota = quota_core.quota_of("local", given)
    properties = {**quota_core.body(quota), "kind": _camel(quota.kind), "used": 3}
    again, used = quota_core.read({"name": quota.name, "properties": properties})
    assert (quota_core.quota_of("local", again), used) == (quota, 3)


def _camel(kind: QuotaKind) -> str:
    head, *rest = kind.value.split("_")
    return head + "".join(word.capitalize() for word in rest)


def test_a_quota_is_told_in_words() -> None:
    quota = Quota(workspace="local", name="free", kind=K.REQUESTS, limit=1000, endpoint="echo",
                  caller="*", window_s=86_400)  # fmt: skip
    text = quota_core.meaning(quota)
    assert text.startswith("Each caller may use 1,000 requests of the endpoint echo per day (UTC).")
    cores = Quota(workspace="local", name="cores", kind=K.INSTANCES, limit=4)
    assert "nothing is taken away" in quota_core.meaning(cores, used=6)
    assert "nothing is taken away" not in quota_core.meaning(cores, used=4)
    names = quota_core.problems({"name": "free", "kind": K.ENDPOINTS, "limit": 3}, ["free"])
    assert list(names) == ["name"]


def test_rows_of_quotas_have_exact_figures_and_lengths_in_words() -> None:
    told = {"kind": "requests", "limit": 1000, "endpoint": "echo", "caller": "*",
            "window": "PT24H", "used": None}  # fmt: skip
    row = quota_core.row({"name": "free", "properties": told})
    assert row == {
        "name": "free", "kind": "Requests in a time", "of": "endpoint echo, each caller",
        "used": UNKNOWN, "limit": "1,000", "window": "day",
    }  # fmt: skip
    assert [quota_core.window_text(n) for n in (60, 300, 3_600, 7 * 86_400, 90)] == [
        "minute", "5 minutes", "hour", "7 days", "90 seconds",
    ]  # fmt: skip


def test_an_objective_says_what_it_allows_and_where_it_is_wrong() -> None:
    right = {"availability_percent": 99.9, "latency_ms": None, "latency_percent": 95.0,
             "window_days": 30}  # fmt: skip
    assert objective_core.problems(right) == {}
    made = objective_core.objective_of("local", "echo", right)
    text = objective_core.meaning(made, requests=5_000)
    assert (
        "100 may fail" in text and "43.2 minutes" in text and "5,000 that were counted: 5." in text
    )
    wrong = {"availability_percent": 100.0, "latency_ms": -1.0, "latency_percent": None,
             "window_days": 0}  # fmt: skip
    assert set(objective_core.problems(wrong)) == set(wrong)
    told = {"properties": {**objective_core.body(made), "windows": [{"good": 3, "bad": 1}]}}
    assert objective_core.read(told) == (right, 4)


@pytest.mark.parametrize("percent", [50.0, 99.0, 99.99])
def test_a_smaller_budget_allows_less(percent: float) -> None:
    objective = Objective(workspace="local", endpoint="echo", availability_percent=percent)
    allowed = round(100_000 * (1 - percent / 100))
    assert f"{allowed:,} may fail" in objective_core.meaning(objective, 0)


def test_an_unknown_budget_is_shown_as_unknown() -> None:
    told = {"properties": {"endpoint": "digits", "availabilityTargetPercent": 99.9,
                           "windowDays": 30, "availabilityBudgetLeftPercent": None}}  # fmt: skip
    row = objective_core.row(told)
    assert (row["target"], row["left"], row["hour"]) == (
        "99.9 % over 30 days", UNKNOWN, UNKNOWN,
    )  # fmt: skip


def test_an_alert_rule_is_checked_before_it_is_sent_and_told_in_words() -> None:
    given = {"name": "on-call", "topics": [alert_core.Topic.JOB_FAILED], "endpoint": "",
             "url": "https://hooks.example.com/x", "secret": "", "is_enabled": False}  # fmt: skip
    assert alert_core.problems(given, []) == {}
    rule = alert_core.rule_of("local", given)
    text = alert_core.meaning(rule)
    assert text.startswith("Switched off. When a batch job has failed, a signed POST goes to hooks")
    wrong = {**given, "name": " ", "topics": [], "url": "hooks.example.com", "secret": "short"}
    assert set(alert_core.problems(wrong, [])) == {"name", "topics", "url", "secret"}
    assert list(alert_core.problems(given, ["on-call"])) == ["name"]
    told = {"name": rule.name, "properties": alert_core.body(rule, "")}
    assert alert_core.read(told) == {k: v for k, v in given.items() if k != "secret"}


BUDGET = {"name": "monthly", "amount": 250.0, "grain": Grain.MONTH, "thresholds": "50, 100 %",
          "endpoint": "echo", "deployment": "", "tag": "team=vision"}  # fmt: skip


def test_a_budget_is_told_in_words_and_comes_back_into_its_form() -> None:
    assert budget_core.problems(BUDGET, []) == {}
    made = budget_core.budget_of("local", BUDGET)
    assert budget_core.meaning(made, "USD").startswith(
        "An event comes when the endpoint echo, the tag team=vision has cost 125 (50 %) and "
        "250 (100 %) USD in a month (UTC), once each;"
    )
    properties = {**budget_core.body(made), "currentSpend": 50.0, "currency": "USD",
                  "periodEnd": "2030-02-01T00:00:00Z", "alerted": [50.0]}  # fmt: skip
    told = {"name": made.name, "properties": properties}
    assert budget_core.budget_of("local", budget_core.read(told)) == made
    assert budget_core.row(told) == {
        "name": "monthly", "of": "endpoint echo, tag team=vision", "spent": "50 USD",
        "share": "20 %", "amount": "250", "grain": "month", "until": "2030-02-01 00:00:00",
        "alerted": "50 %",
    }  # fmt: skip
    unread = {"name": made.name, "properties": {**properties, "currentSpend": None}}
    shown = budget_core.row(unread)
    assert (shown["spent"], shown["share"]) == (UNKNOWN, UNKNOWN)


def test_a_budget_of_the_workspace_tells_its_thresholds_in_their_order() -> None:
    given = {**BUDGET, "endpoint": "", "tag": "", "thresholds": "100, 50, 80"}
    made = budget_core.budget_of("local", given)
    assert "the whole workspace has cost 125 (50 %), 200 (80 %) and 250 (100 %)" in (
        budget_core.meaning(made, "")
    )
    told = {"name": made.name, "properties": budget_core.body(made)}
    assert budget_core.row(told)["of"] == "the workspace"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("name", "no spaces"), ("name", "taken"), ("amount", None), ("amount", 0),
        ("thresholds", "half"), ("thresholds", ""), ("thresholds", "0"), ("thresholds", "2000"),
        ("thresholds", ", ".join(map(str, range(1, 12)))), ("tag", "vision"), ("tag", "=x"),
    ],
)  # fmt: skip
def test_a_budgets_form_says_at_which_field_it_is_wrong(field: str, wrong: object) -> None:
    assert list(budget_core.problems({**BUDGET, field: wrong}, ["taken"])) == [field]


def test_a_deployment_alone_is_no_place_for_a_budget() -> None:
    wrong = {**BUDGET, "endpoint": "", "deployment": "blue"}
    assert list(budget_core.problems(wrong, [])) == ["endpoint"]
