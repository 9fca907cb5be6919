"""The same requests to Azure's inference server and to our worker get the same answers."""

from __future__ import annotations

import asyncio
import json

import pytest

from oracle.cases import CASES, DIFFERENCES, RAW_CASES, Case
from oracle.conftest import Stage
from oracle.servers import Seen

pytestmark = pytest.mark.asyncio(loop_scope="session")


def comparable(case: Case, answer: Seen) -> tuple[object, ...]:
    """Descriptions of the API are compared as values: the order of their keys means nothing."""
    described = case.target.startswith("/swagger.json") and answer.body
    body = json.loads(answer.body) if described else answer.body
    return answer.status, dict(answer.headers), len(answer.headers), body


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


async def test_every_difference_is_a_case() -> None:
    assert set(DIFFERENCES) <= set(map(str, CASES))
