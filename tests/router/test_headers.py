"""Which headers pass, and what becomes of ids. Also: how answers map to statuses."""

from __future__ import annotations

import json

import pytest

from headgate.router import answers, headers
from headgate.router.answers import ModelAnswer
from headgate.router.core import Refusal
from headgate.router.headers import Head, Ids
from headgate_contracts import limits

FRESH = "0a0a0a0a-0000-4000-8000-000000000000"


def head(*pairs: tuple[str, str]) -> Head:
    made = Head()
    for name, value in pairs:
        made.add(name, value)
    return made


def read(lines: str) -> dict[str, str]:
    """Headers as they are written."""
    assert lines.endswith("\r\n")
    return dict(line.split(": ", 1) for line in lines.split("\r\n")[:-1])


@pytest.mark.parametrize(
    "name",
    [
        "Content-Type", "Content-Encoding", "Accept", "Accept-Language", "User-Agent",
        "X-Anything", "azureml-custom", "traceparent", "tracestate", "baggage", "Origin",
    ],
)  # fmt: skip
def test_headers_about_the_content_reach_the_model(name: str) -> None:
    assert head((name, "value")).forwarded == [(name.lower(), "value")]


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Cookie", "Connection", "Keep-Alive", "Proxy-Authorization", "TE",
        "Transfer-Encoding", "Upgrade", "Host", "Content-Length", "Expect", "Nats-Msg-Id",
        "Nats-Trace-Dest", "Nats-Rollup", "azureml-model-deployment", "Forwarded",
    ],
)  # fmt: skip
def test_headers_about_connection_identity_and_bus_do_not(name: str) -> None:
    assert head((name, "value")).forwarded == []


def test_a_name_that_comes_twice_is_a_list_that_no_rule_accepts() -> None:
    twice = head(("Authorization", "Bearer a"), ("authorization", "Bearer b"))
    assert twice.authorization == "Bearer a,Bearer b"


@pytest.mark.parametrize(
    "pairs",
    [
        [(f"x-{i}", "v") for i in range(limits.REQUEST_HEADERS_MAX + 1)],
        [("cookie", "c" * limits.REQUEST_HEADER_BYTES_MAX)],
        [("x-big", "b" * limits.FORWARDED_HEADER_BYTES_MAX)],
        [("x-ms-client-request-id", "c" * 101)],
    ],
    ids=["many", "large", "large for the model", "client id"],
)
def test_too_much_is_431(pairs: list[tuple[str, str]]) -> None:
    refusal = head(*pairs).refusal()
    assert refusal is not None
    assert refusal.status == 431


def test_as_much_as_allowed_passes() -> None:
    many = [(f"x-{i}", "v") for i in range(limits.REQUEST_HEADERS_MAX)]
    assert head(*many).refusal() is None
    assert len(head(*many).forwarded) == limits.REQUEST_HEADERS_MAX


@pytest.mark.parametrize("given", ["12345678", "a" * 64, FRESH, "ABC-def-0123"])
def test_a_harmless_request_id_of_the_client_is_kept(given: str) -> None:
    assert Ids(head(("x-request-id", given)), FRESH).request == given


@pytest.mark.parametrize("given", ["", "short", "a" * 65, "a" * 1_024, "../../etc", "ab cd efgh"])
def test_any_other_request_id_is_replaced(given: str) -> None:
    assert Ids(head(("x-request-id", given)), FRESH).request == FRESH


@pytest.mark.parametrize(
    ("sent", "client", "legacy"),
    [
        ({}, None, FRESH),
        ({"x-ms-client-request-id": "my_id-1"}, "my_id-1", "my_id-1"),
        ({"x-ms-request-id": "old-id"}, "old-id", "old-id"),
        ({"x-ms-client-request-id": "a b"}, None, FRESH),
        ({"x-ms-client-request-id": "new", "x-ms-request-id": "old"}, "new", "new"),
    ],
)
def test_the_clients_own_id_comes_back(
    sent: dict[str, str], client: str | None, legacy: str
) -> None:
    pairs = read(Ids(head(*sent.items()), FRESH).lines)
    assert pairs["x-request-id"] == FRESH
    assert pairs.get("x-ms-client-request-id") == client
    assert pairs["x-ms-request-id"] == legacy


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie", "Transfer-Encoding", "Location", "Connection", "Content-Length", "Server",
        "x-request-id", "x-ms-request-id", "x-ms-client-request-id", "azureml-model-deployment",
        "ms-azureml-model-error-statuscode", "www-authenticate", "Nats-Msg-Id", "Hg-Status",
        "x bad", "x-bad:", "x-\r\nset-cookie",
    ],
)  # fmt: skip
def test_a_model_does_not_decide_about_connection_cookies_and_ids(name: str) -> None:
    assert headers.answered([[name, "value"]]) == ""


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\x00b", "snow \u2603"])
def test_values_that_are_no_header_values_are_dropped(value: str) -> None:
    assert headers.answered([["x-mine", value], ["x-other", "kept"]]) == "x-other: kept\r\n"


def test_malformed_header_lists_of_a_model_are_ignored() -> None:
    given = [None, 7, ["x-one"], ["x-a", "b", "c"], ["X-Two", 2]]
    assert headers.answered(given) == "x-two: 2\r\n"
    assert headers.answered([["x-big", "b" * 10_000]] * 50).count("x-big") == 1


def answer(status: object, pairs: object = None) -> answers.Answer:
    ids = Ids(Head(), FRESH)
    return answers.of_model(ModelAnswer({"s": status, "h": pairs}, b"body"), "blue", ids)


@pytest.mark.parametrize(
    ("ms", "told"),
    [(0.1234, "0.123"), (1500, "1500.000"), (0, "0.000"), (-1, "0.000"), ("1", "0.000"),
     (None, "0.000"), (1e300, "0.000"), (float("nan"), "0.000")],
)  # fmt: skip
def test_an_answer_without_a_list_of_headers_is_an_ordinary_one(ms: object, told: str) -> None:
    given = answers.of_model(ModelAnswer({"s": 200, "ms": ms}, b"[1]"), "blue", Ids(Head(), FRESH))
    assert (given.status, given.body) == (200, b"[1]")
    assert read(given.lines) == {
        "x-request-id": FRESH,
        "x-ms-request-id": FRESH,
        "azureml-model-deployment": "blue",
        "content-type": "application/json",
        "x-ms-run-function-failed": "False",
        "x-ms-run-fn-exec-ms": told,
    }


@pytest.mark.parametrize("status", [200, 201, 202, 206, 299])
def test_success_of_the_model_passes(status: int) -> None:
    assert answer(status).status == status


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (500, "500", "Internal Server Error"),
        (400, "400", "Bad Request"),
        (302, "302", "Found"),
        (100, "100", "Continue"),
        (700, "700", "the model gave no valid status"),
        ("200", "0", "OK"),
        (None, "0", "the model gave no valid status"),
        (True, "0", "the model gave no valid status"),
    ],
)
def test_everything_else_is_424_with_the_models_status(
    status: object, told: str, reason: str
) -> None:
    given = answer(status, [["content-type", "text/plain"], ["x-ms-run-function-failed", "True"]])
    pairs = read(given.lines)
    assert (given.status, given.body) == (424, b"body")
    assert pairs["ms-azureml-model-error-statuscode"] == told
    assert pairs["ms-azureml-model-error-reason"] == reason
    assert pairs["x-ms-run-function-failed"] == "True"
    assert pairs["content-type"] == "text/plain"


def test_refusals_have_one_form() -> None:
    refusal = Refusal(429, "TooManyRequests", "wait", 3)
    given = answers.of_refusal(refusal, Ids(Head(), FRESH), "blue")
    assert json.loads(given.body)["error"] == {
        "code": "TooManyRequests",
        "message": "wait",
        "request_id": FRESH,
        "retryable": True,
    }
    pairs = read(given.lines)
    assert pairs["retry-after"] == "3"
    assert pairs["azureml-model-deployment"] == "blue"
    assert pairs["x-request-id"] == FRESH
