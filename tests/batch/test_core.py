"""The decisions about jobs: every case of the failure arithmetic, sharing, back-off, cutting."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.batch import core
from headgate.batch.core import Claim, Commit, GiveUp, Known, Retry, Trigger
from headgate.batch.cutting import Cutter, MiniBatch
from headgate_contracts import limits
from headgate_contracts.batch import BatchDeploymentSpec, RetrySettings
from headgate_contracts.errors import HeadgateError
from headgate_contracts.jobs import JobCounts, JobOverrides, JobSettings, JobStatus
from headgate_contracts.mini_batches import FilePart, MiniBatchReport


def report(outcome: str = "done", returned: int = 0, error: str = "") -> MiniBatchReport:
    return MiniBatchReport.model_validate(
        {
            "job": "j",
            "number": 1,
            "attempt": 1,
            "node": "n",
            "outcome": outcome,
            "returned": returned,
            "error": error,
        }
    )


# --- the arithmetic ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (10, Commit(10, 0, 10)),  # each returned element is a success
        (7, Commit(7, 3, 7)),  # what is missing has failed
        (0, Commit(0, 10, 0)),
        (25, Commit(10, 0, 25)),  # several rows of one file are one success
    ],
)
def test_returned_elements_are_successes(returned: int, expected: Commit) -> None:
    assert core.judged(report(returned=returned), Known(10, 1, 0), JobSettings()) == expected


@pytest.mark.parametrize("outcome", ["raised", "timed_out", "crashed"])
def test_a_failed_attempt_is_repeated_max_retries_times(outcome: str) -> None:
    settings = JobSettings(max_retries=2)
    known = Known(10, 1, 0)
    for attempt in (2, 3):
        found = core.judged(report(outcome), known, settings)
        assert isinstance(found, Retry) and found.attempt == attempt
        known = Known(10, found.attempt, found.losses)
    assert core.judged(report(outcome, error="why"), known, settings) == GiveUp(10, "why")


def test_without_retries_the_first_failure_is_the_last() -> None:
    found = core.judged(report("raised"), Known(3, 1, 0), JobSettings(max_retries=0))
    assert found == GiveUp(3, "")


def test_the_end_of_a_node_is_nobodys_fault_but_not_for_ever() -> None:
    settings, known = JobSettings(max_retries=0), Known(3, 1, 0)
    for losses in range(limits.BATCH_LOSSES_MAX):
        found = core.judged(report("lost"), known, settings)
        assert found == Retry(0.0, 1, losses + 1)
        known = Known(3, 1, losses + 1)
    assert isinstance(core.judged(report("lost"), known, settings), GiveUp)


def test_waits_between_attempts() -> None:
    assert [core.backoff_s(n) for n in (1, 2, 3, 4, 9)] == [5, 30, 120, 120, 120]
    assert [core.backoff_s(n, is_crash=True) for n in (1, 2, 3, 4, 5)] == [0, 5, 30, 120, 120]


@pytest.mark.parametrize(
    ("failed", "threshold", "is_over"),
    [(0, 0, False), (1, 0, True), (5, 5, False), (6, 5, True), (10**6, -1, False)],
)
def test_a_job_is_aborted_above_its_threshold(failed: int, threshold: int, is_over: bool) -> None:
    counts = JobCounts(failed=failed)
    found = core.over_threshold(counts, JobSettings(error_threshold=threshold))
    assert (found is not None) is is_over


def test_a_job_without_one_success_fails_even_if_any_error_is_allowed() -> None:
    assert core.over_threshold(JobCounts(items=5, failed=5), JobSettings()) is None
    assert core.verdict(JobCounts(items=5, failed=5)) is not None
    assert core.verdict(JobCounts(items=5, failed=4, succeeded=1)) is None


def test_counts_add_up() -> None:
    counts = JobCounts(is_listed=True, mini_batches=2, items=20)
    counts = core.added(counts, Commit(7, 3, 12))
    assert not core.is_settled(counts)
    counts = core.added(counts, GiveUp(10, "no"))
    assert core.is_settled(counts)
    assert (counts.succeeded, counts.failed, counts.rows) == (7, 13, 12)
    assert counts.failed_mini_batches == 1


# --- statuses ----------------------------------------------------------------------------------


def test_no_way_leads_out_of_the_end_but_to_resume_what_is_not_complete() -> None:
    for status, trigger in itertools.product(JobStatus, Trigger):
        found = core.moved(status, trigger)
        if status.is_final and found is not None:
            assert trigger is Trigger.RESUME and status is not JobStatus.COMPLETED
        if found is JobStatus.COMPLETED:
            assert status is JobStatus.FINALIZING


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(HeadgateError, match="is Completed"):
        core.asked_to("j", JobStatus.COMPLETED, Trigger.RESUME)


# --- settings ----------------------------------------------------------------------------------


def test_a_job_overrides_its_deployment() -> None:
    deployment = BatchDeploymentSpec(
        name="blue-one",
        endpoint_name="heart",
        mini_batch_size=7,
        error_threshold=3,
        retry_settings=RetrySettings(max_retries=1, timeout=9),
    )
    assert core.settings_of(deployment, JobOverrides()) == JobSettings(
        mini_batch_size=7, error_threshold=3, max_retries=1, timeout_s=9
    )
    wanted = JobOverrides(mini_batch_size=2, timeout=5, max_retries=0, instance_count=4)
    found = core.settings_of(deployment, wanted)
    assert (found.mini_batch_size, found.timeout_s, found.max_retries) == (2, 5, 0)
    assert (found.instance_count, found.error_threshold) == (4, 3)
    assert core.settings_of(deployment, JobOverrides(mini_batch_rows=5)).mini_batch_rows == 5
    with pytest.raises(HeadgateError, match="not by both"):
        core.settings_of(deployment, JobOverrides(mini_batch_rows=5, mini_batch_bytes=5))


# --- sharing -----------------------------------------------------------------------------------


def test_equal_jobs_share_equally() -> None:
    assert core.shares(4, [Claim("a", 9), Claim("b", 9)]) == {"a": 2, "b": 2}
    assert core.shares(5, [Claim("a", 1), Claim("b", 9)]) == {"a": 1, "b": 4}


def test_priority_comes_first_and_the_rest_goes_to_who_had_least() -> None:
    urgent = [Claim("a", 3), Claim("b", 3, priority=1)]
    assert core.shares(4, urgent) == {"a": 1, "b": 3}
    claims = [Claim("a", 9, served_s=70, created_at=1), Claim("b", 9, served_s=50, created_at=2)]
    assert core.shares(3, claims) == {"a": 1, "b": 2}
    assert core.shares(1, [Claim("new", 1, created_at=2), Claim("old", 1, created_at=1)]) == {
        "new": 0,
        "old": 1,
    }


@given(
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), max_size=8),
)
def test_shares_waste_nothing_and_favour_nobody(total: int, wants: list[tuple[int, int]]) -> None:
    claims = [Claim(str(n), wanted, priority) for n, (wanted, priority) in enumerate(wants)]
    given_ = core.shares(total, claims)
    assert sum(given_.values()) == min(total, sum(claim.wanted for claim in claims))
    for one, other in itertools.permutations(claims, 2):
        assert given_[one.job] <= one.wanted
        is_hungry = given_[one.job] < one.wanted
        if one.priority > other.priority and is_hungry:
            assert given_[other.job] == 0
        if one.priority == other.priority and is_hungry:
            assert given_[other.job] <= given_[one.job] + 1


def test_no_more_nodes_than_work() -> None:
    settings = JobSettings(instance_count=5, max_concurrency_per_instance=2)
    assert core.wanted_nodes(settings, JobCounts()) == 5
    assert core.wanted_nodes(settings, JobCounts(is_listed=True, mini_batches=5, settled=2)) == 2
    assert core.wanted_nodes(settings, JobCounts(is_listed=True, mini_batches=5, settled=5)) == 0


# --- cutting -----------------------------------------------------------------------------------


def cut(settings: JobSettings, sizes: list[int]) -> list[MiniBatch]:
    cutter = Cutter(settings)
    files = [FilePart(path=f"{n:04}", size_bytes=size) for n, size in enumerate(sizes)]
    return [each for file in files for each in cutter.add(file)] + list(cutter.rest())


def test_cutting_by_number_of_files() -> None:
    found = cut(JobSettings(mini_batch_size=3), [1] * 7)
    assert [each.items for each in found] == [3, 3, 1]


def test_cutting_by_bytes() -> None:
    found = cut(JobSettings(mini_batch_bytes=100), [60, 30, 20, 100, 500, 1, 0])
    assert [[part.size_bytes for part in each.files] for each in found] == [
        [60, 30],
        [20],
        [100],
        [500],
        [1, 0],
    ]


@given(
    st.lists(st.integers(0, 50), max_size=60),
    st.integers(1, 9),
    st.one_of(st.none(), st.integers(1, 80)),
)
def test_cutting_loses_and_repeats_nothing(sizes: list[int], size: int, most: int | None) -> None:
    found = cut(JobSettings(mini_batch_size=size, mini_batch_bytes=most), sizes)
    assert [part.size_bytes for each in found for part in each.files] == sizes
    for each in found:
        assert each.files and each.items == len(each.files)
        assert most is None or len(each.files) == 1 or each.size_bytes <= most


@given(st.integers(0, 100_000), st.integers(1, 1_000))
def test_a_picture_has_no_more_groups_than_asked_for(count: int, groups: int) -> None:
    size = core.group_size(count, groups)
    assert -(-count // size) <= groups
    assert size == 1 or -(-count // (size - 1)) > groups


def test_groups_tell_states_apart_by_whether_there_was_an_attempt() -> None:
    counted = [(0, "pending", False, 2), (0, "pending", True, 1), (2, "queued", True, 1),
               (2, "done", True, 3), (2, "done", False, 4), (2, "failed", False, 1)]  # fmt: skip
    first, third = core.groups_of(100, 10, counted)
    assert (first.first, first.waiting, first.retrying, first.retried) == (100, 2, 1, 1)
    assert (third.first, third.running, third.done, third.failed) == (120, 1, 7, 1)
    assert third.retried == 4
