"""The gateway does what its OpenAPI document says, whatever it is sent.

Schemathesis makes requests from the document that fit it and that do not: examples, the corners
of every limit, chance, and chains of requests. The services behind the gateway are the real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from gateway.harness import TOKEN
from gateway.house import House, open_house

SEED = 20_260
EXAMPLES_MAX = 6
CHAINS_MAX = 12
# What is left out, and why.
LEFT_OUT = {
    "/events": "a stream that goes on for ever; tests/gateway/test_events.py reads it",
}
_ONLY_IN_WORDS = (
    "rules between fields (traffic sums to 100, a minimum below a maximum) and references to "
    "what exists cannot be said in JSON Schema, so a fitting body may still be refused"
)
CHECKS: dict[str, Any] = {
    # A queue or store that does not answer is 503, its documented answer.
    "not_a_server_error": {"expected-statuses": ["2XX", "3XX", "4XX", "503"]},
    "positive_data_acceptance": {"enabled": not _ONLY_IN_WORDS},
    "negative_data_rejection": {"expected-statuses": ["4XX", "503"]},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with open_house() as house:
        yield house


def configuration(base_url: str) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "base-url": base_url,
            "headers": {"Authorization": f"Bearer {TOKEN}"},
            "request-timeout": 20,
            "continue-on-failure": True,
            "checks": CHECKS,
            "generation": {
                "deterministic": True,
                "max-examples": EXAMPLES_MAX,
                "no-shrink": True,
                "database": "none",
            },
            "phases": {
                "stateful": {"max-steps": 6, "generation": {"max-examples": CHAINS_MAX}},
            },
        }
    )


def explore(document: dict[str, Any], base_url: str) -> tuple[dict[str, set[str]], set[str], int]:
    """What is wrong (label -> problems), which phases ran, and how many requests were sent."""
    schema = schemathesis.openapi.from_dict(document, config=configuration(base_url))
    wrong: dict[str, set[str]] = {}
    phases: set[str] = set()
    requests = 0
    for event in from_schema(schema).execute():
        if isinstance(event, events.PhaseFinished):
            phases.add(f"{event.phase.name.name}: {event.status.name}")
        elif isinstance(event, events.NonFatalError):
            wrong.setdefault(event.label, set()).add(str(event.info.format()))
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            requests += len(event.recorder.interactions)
            for case_id, checks in event.recorder.checks.items():
                for check in checks:
                    if check.failure_info is not None:
                        failure = check.failure_info.failure
                        sent = event.recorder.interactions.get(case_id)
                        label = f"{failure.operation}"
                        said = sent.response.content[:300] if sent and sent.response else b""
                        text = f"{failure.title}: {failure.message[:600]}\n  {said!r}"
                        text += f"\n  {check.failure_info.code_sample[:400]}"
                        wrong.setdefault(label, set()).add(text)
    return wrong, phases, requests


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.filterwarnings("ignore")  # of the generator itself
async def test_whatever_is_sent_the_answer_is_as_documented(house: House) -> None:
    document = (await house.api.get("/openapi.json")).body
    for path in LEFT_OUT:
        del document["paths"][path]
    wrong, phases, requests = await asyncio.to_thread(explore, document, house.api.base)
    shown = [f"{label}\n {text}" for label in sorted(wrong) for text in sorted(wrong[label])]
    assert not wrong, "\n\n".join(shown)
    print(phases, requests)
    assert requests > 1_000
