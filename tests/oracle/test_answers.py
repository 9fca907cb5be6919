"""The same requests to Azure's inference server and to our worker get the same answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from oracle.cases import CASES, DIFFERENCES, IDS_CASES, RAW_CASES, Case
from oracle.conftest import Stage
from oracle.servers import IDS, Seen

pytestmark = pytest.mark.asyncio(loop_scope="session")


def comparable(case: Case, answer: Seen) -> tuple[object, ...]:
    """Descriptions of the API are compared as values: the order of their keys means nothing.

    Without the ids, which a worker leaves to its router.
    """
    described = case.target.startswith("/swagger.json") and answer.body
    body = json.loads(answer.body) if described else answer.body
    headers = [(name, value) for name, value in answer.headers if name not in IDS]
    return answer.status, dict(headers), len(headers), body


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_answers_are_the_same(stage: Stage, case: Case) -> None:
    theirs = await asyncio.to_thread(stage.references[case.script].ask, case)
    mine = await stage.ours[case.script].ask(case)
    same = comparable(case, mine) == comparable(case, theirs)
    if str(case) in DIFFERENCES:
        assert not same, f"no longer a difference: {DIFFERENCES[str(case)]}"
    else:
        assert comparable(case, mine) == comparable(case, theirs)


@pytest.mark.parametrize("case", RAW_CASES, ids=str)
async def test_scripts_see_the_same_without_flask(stage: Stage, case: Case) -> None:
    """Our own request and response classes against Flask's, with the same script."""
    with_flask = await stage.ours["raw"].ask(case)
    without = await stage.bare.ask(case)
    assert comparable(case, without) == comparable(case, with_flask)


@pytest.mark.parametrize("case", IDS_CASES, ids=str)
async def test_ids_are_the_same_without_a_router(stage: Stage, case: Case) -> None:
    theirs, mine = await asyncio.gather(
        asyncio.to_thread(stage.references[case.script].ask, case),
        asyncio.to_thread(stage.alone[case.script].ask, case),
    )
    assert mine == theirs


async def test_every_difference_is_a_case() -> None:
    assert set(DIFFERENCES) <= set(map(str, CASES))
