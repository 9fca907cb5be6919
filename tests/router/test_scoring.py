"""What a client gets for one request: keys, statuses, headers, timeouts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from headgate_contracts import limits
from headgate_contracts.scoring import InstanceState
from router.stage import KEY, Instance, Response, Stage, request, until

Names = Callable[[str], str]


async def test_a_request_reaches_the_model_and_its_answer_the_client(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await stage.instance(name)
    answer = await stage.ask(
        name, b'{"x": 1}', path="score?a=1&b=%20", headers={"Content-Type": "application/json"}
    )
    assert (answer.status, answer.body) == (200, b'{"x": 1}')
    assert answer.headers["azureml-model-deployment"] == "blue"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "server" not in answer.headers
    (run,) = instance.runs
    assert run.meta["q"] == "a=1&b=%20" and not {"m", "p"} & run.meta.keys()
    assert ["content-type", "application/json"] in run.meta["h"]
    assert run.meta["rid"] == answer.headers["x-request-id"]


async def test_keys_open_only_their_own_endpoint(stage: Stage, unique: Names) -> None:
    """No, malformed, wrong, another endpoint's, in the query: all 401; either of two keys: 200."""
    mine, other = unique("ep"), unique("ep")
    await stage.route(mine, {"blue": 100}, keys=("first-key", "second-key"))
    await stage.route(other, {"blue": 100}, keys=("other-key",))
    instance = await stage.instance(mine)
    for key in ("", "wrong", "other-key", "first-ke", "first-key2", "k" * 9_000, "first-key,x"):
        answer = await stage.ask(mine, key=key)
        assert (answer.status, answer.error["code"]) == (401, "Unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    for header in ("Basic first-key", "first-key", "Bearer", "Bearerfirst-key"):
        assert (await stage.ask(mine, key="", headers={"Authorization": header})).status == 401
    assert (await stage.ask(mine, key="", path="score?key=first-key&code=first-key")).status == 401
    assert instance.runs == []
    for header in ("Bearer first-key", "bearer second-key"):
        assert (await stage.ask(mine, key="", headers={"Authorization": header})).status == 200


async def test_a_key_stops_working_when_the_route_drops_it(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, keys=("old", "kept"))
    await stage.instance(name)
    assert (await stage.ask(name, key="old")).status == 200
    await stage.route(name, {"blue": 100}, keys=("new", "kept"))
    assert (await stage.ask(name, key="old")).status == 401
    assert (await stage.ask(name, key="kept")).status == 200


async def test_unknown_endpoints_are_404_with_any_key(stage: Stage, unique: Names) -> None:
    for key in ("", KEY):
        answer = await stage.ask(unique("none"), key=key)
        assert (answer.status, answer.error["code"]) == (404, "EndpointNotFound")


async def test_an_endpoint_without_traffic_is_404_but_the_header_reaches_its_deployment(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 0})
    await stage.instance(name)
    assert (await stage.ask(name)).error["code"] == "NoTraffic"
    answer = await stage.ask(name, headers={"azureml-model-deployment": "BLUE"})
    assert (answer.status, answer.headers["azureml-model-deployment"]) == (200, "blue")
    for header in ("green", "*", ">", "blue.x", "b" * 7_000):
        answer = await stage.ask(name, headers={"azureml-model-deployment": header})
        assert (answer.status, answer.error["code"]) == (404, "DeploymentNotFound")


async def test_a_deployment_without_a_ready_instance_is_503_at_once(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name, state=InstanceState.STARTING)
    answer = await stage.ask(name)
    assert (answer.status, answer.error["code"]) == (503, "NoReadyInstance")
    assert answer.headers["retry-after"] == "1"
    assert answer.error["retryable"] is True


async def test_an_unready_instance_gets_no_requests_while_the_provisioner_says_so(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await stage.instance(name)
    await stage.say(instance, InstanceState.UNREADY, withheld_s=10.0)
    await until(lambda: stage.ready(name) == [], "it is left out")
    beats = stage.seen(instance).heard
    await until(lambda: stage.seen(instance).heard > beats, "it says again that it is ready")
    assert (await stage.ask(name)).error["code"] == "NoReadyInstance"
    await stage.say(instance, InstanceState.UNREADY, withheld_s=0.0)
    await until(lambda: len(stage.ready(name)) == 1, "it is asked again")
    await stage.say(instance, InstanceState.UNREADY, withheld_s=0.2)
    await until(lambda: stage.ready(name) == [], "it is left out")
    await until(lambda: len(stage.ready(name)) == 1, "the provisioner is silent: own word counts")
    assert (await stage.ask(name)).status == 200


async def test_a_stopped_deployment_says_so(stage: Stage, unique: Names) -> None:
    """To try again is of no use, so nothing asks the client to."""
    name = unique("ep")
    await stage.route(name, {"blue": 100}, is_stopped=True)
    answer = await stage.ask(name)
    assert (answer.status, answer.error["code"]) == (503, "DeploymentStopped")
    assert "retry-after" not in answer.headers
    assert answer.error["retryable"] is False


async def test_a_model_that_fails_is_424_with_its_own_answer(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    pairs = [
        ("content-type", "application/json"),
        ("x-ms-run-function-failed", "True"),
        ("x-ms-run-fn-exec-ms", "1.250"),
        ("x-custom", "yes"),
        ("Set-Cookie", "a=b"),
        ("Transfer-Encoding", "chunked"),
        ("Location", "http://elsewhere"),
        ("x-evil", "a\r\nSet-Cookie: c=d"),
    ]
    await stage.instance(name, model=lambda *_: (500, pairs, b'{"message": "no"}'))
    answer = await stage.ask(name)
    assert (answer.status, answer.body) == (424, b'{"message": "no"}')
    assert answer.headers["ms-azureml-model-error-statuscode"] == "500"
    assert answer.headers["ms-azureml-model-error-reason"] == "Internal Server Error"
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert answer.headers["x-ms-run-fn-exec-ms"] == "1.250"
    assert answer.headers["x-custom"] == "yes"
    for name in ("set-cookie", "transfer-encoding", "location", "x-evil"):
        assert name not in answer.headers


@pytest.mark.parametrize("status", [700, 99, 0, -1])
async def test_a_status_that_does_not_exist_is_424(
    stage: Stage, unique: Names, status: int
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name, model=lambda *_: (status, [], b""))
    answer = await stage.ask(name)
    assert answer.status == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == str(status)


async def test_a_model_without_content_answers_204(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name, model=lambda *_: (204, [], b"ignored"))
    wire = await stage.wire()
    for _ in range(2):  # and the connection stays usable
        await wire.send(request(name))
        answer = await wire.receive()
        assert (answer.status, answer.body) == (204, b"")


async def test_a_slow_model_is_408_at_its_limit_and_its_slot_stays_taken(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=300)
    instance = await stage.instance(name)
    instance.gate.clear()
    answer = await stage.ask(name)
    assert (answer.status, answer.error["code"]) == (408, "RequestTimeout")
    assert "300 milliseconds" in answer.error["message"]
    # Nothing else starts while the model is still at it; who waits is told that nothing ran.
    answer = await stage.ask(name)
    assert (answer.status, answer.error["code"]) == (503, "QueueExpired")
    assert len(instance.runs) == 1
    instance.gate.set()
    await until(lambda: stage.seen(instance).in_flight == 0, "the slot is free")
    assert (await stage.ask(name)).status == 200


async def test_a_client_may_ask_for_less_time(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=60_000)
    instance = await stage.instance(name)
    assert (await stage.ask(name, headers={"x-request-timeout-ms": "9999999999"})).status == 200
    assert (await stage.ask(name, headers={"x-request-timeout-ms": "-5"})).status == 408
    assert (await stage.ask(name, headers={"x-request-timeout-ms": "later"})).status == 400
    instance.gate.clear()
    assert (await stage.ask(name, headers={"x-request-timeout-ms": "50"})).status == 408
    instance.gate.set()


async def test_deadlines_hold_whatever_clock_the_instance_has(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=2_000)
    for ahead_ms in (3_600_000.0, -3_600_000.0):
        instance = await stage.instance(name, clock_ahead_ms=ahead_ms)
        assert (await stage.ask(name)).status == 200
        left_ms = instance.runs[-1].meta["dl"] - 1000 * instance.runs[-1].began - ahead_ms
        assert 0 < left_ms <= 2_000
        await instance.die()
        await stage.say_lost(instance)
        await until(lambda i=instance: stage.seen(i) not in stage.ready(name), "it is left out")


async def test_a_full_deployment_queues_twice_its_slots_and_refuses_the_rest(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=2)
    instance = await stage.instance(name, capacity=2)
    instance.gate.clear()
    asked = [asyncio.create_task(stage.ask(name, b"%d" % i)) for i in range(2 + 4)]
    deployment = stage.router.table.endpoint(name).deployments["blue"]  # type: ignore[union-attr]
    await until(lambda: len(deployment.waiting) == 4, "four wait")
    refused = await stage.ask(name)
    assert (refused.status, refused.error["code"]) == (429, "TooManyRequests")
    assert 1 <= int(refused.headers["retry-after"]) <= 30
    instance.gate.set()
    assert [(await one).status for one in asked] == [200] * 6
    assert len(instance.runs) == 6
    assert (await stage.ask(name)).status == 200


async def test_requests_spread_over_instances_by_load(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, concurrency=4)
    instances = [await stage.instance(name, capacity=4) for _ in range(3)]
    for instance in instances:
        instance.gate.clear()
    asked = [asyncio.create_task(stage.ask(name)) for _ in range(12)]
    await until(lambda: sum(len(i.runs) for i in instances) == 12, "all run")
    assert [len(i.runs) for i in instances] == [4, 4, 4]
    for instance in instances:
        instance.gate.set()
    assert {(await one).status for one in asked} == {200}


async def test_ids_are_given_kept_and_forwarded(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    instance = await stage.instance(name)
    answer = await stage.ask(name, headers={"x-ms-client-request-id": "mine_1", "x-request-id": ""})
    assert answer.headers["x-ms-client-request-id"] == "mine_1"
    assert answer.headers["x-ms-request-id"] == "mine_1"
    assert len(answer.headers["x-request-id"]) == 36
    assert instance.runs[-1].meta["cid"] == "mine_1"
    answer = await stage.ask(name, headers={"x-request-id": "12345678-abcd"})
    assert answer.headers["x-request-id"] == "12345678-abcd"
    for bad in ("i" * 1_024, "someone's id"):
        answer = await stage.ask(name, headers={"x-request-id": bad})
        assert (answer.status, len(answer.headers["x-request-id"])) == (200, 36)
    answer = await stage.ask(name, headers={"x-ms-client-request-id": "c" * 101})
    assert answer.status == 431


async def test_bodies_are_opaque(stage: Stage, unique: Names) -> None:
    """Empty, binary, pickled, and as large as allowed: byte for byte, both ways."""
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name)
    largest = bytes(limits.SCORING_BODY_BYTES_MAX)
    for body in (b"", b"\x00\xff\r\n" * 99, b"\x80\x04\x95cos\nsystem\n", largest):
        answer = await stage.ask(name, body)
        assert answer.status == 200
        assert answer.body == body


async def test_paths_lead_to_the_model_or_nowhere(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, scoring_path="/v1/models/digits:predict")
    instance = await stage.instance(name)
    for path, reached in (
        ("score", "/v1/models/digits:predict"),
        ("score/deeper", "/v1/models/digits:predict/deeper"),
        ("swagger.json?version=3", "/swagger.json"),
    ):
        assert (await stage.ask(name, path=path, method="GET")).status == 200
        assert instance.runs[-1].meta["p"] == reached
    before = len(instance.runs)
    for path in ("", "scores", "score/../x", "score//x", "score/%00", "%73core", "Score"):
        answer = await stage.ask(name, path=path)
        assert (answer.status, answer.error["code"]) == (404, "NotFound")
    assert len(instance.runs) == before


async def test_the_endpoint_may_be_the_first_label_of_the_host(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name)
    wire = await stage.wire()
    for host, path, status in (
        (f"{name}.headgate.localhost:8901", "/score", 200),
        (f"{name.upper()}.example.org", "/swagger.json", 200),
        (f"other.{name}", "/score", 404),
        (name, "/score", 404),
        ("127.0.0.1", "/score", 404),
        (f"{name}.example.org", "/else", 404),
    ):
        await wire.send(
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\n"
            "Content-Length: 2\r\n\r\n{}".encode()
        )
        assert (await wire.receive()).status == status


async def test_preflight_requests_need_the_key(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    cors = [("access-control-allow-origin", "*")]
    await stage.instance(name, model=lambda *_: (200, cors, b""))
    assert (await stage.ask(name, method="OPTIONS", key="")).status == 401
    answer = await stage.ask(name, method="OPTIONS", headers={"Origin": "http://a.test"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")


async def test_outcomes_are_counted(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100})
    await stage.instance(name, model=lambda _meta, body: (int(body), [], b""))
    for body in (b"200", b"200", b"500"):
        await stage.ask(name, body)
    await stage.ask(name, key="wrong")
    traffic = await stage.deployment_traffic(name)
    assert (traffic.requests, dict(traffic.statuses)) == (3, {200: 2, 424: 1})
    snapshot = traffic.snapshot(in_flight=0, ready_instances=1)
    assert sum(snapshot.latency_buckets) == 3
    assert dict(stage.router.table.endpoint(name).refused) == {401: 1}  # type: ignore[union-attr]


async def test_errors_have_one_form_and_name_the_request(stage: Stage, unique: Names) -> None:
    answer = await stage.ask(unique("none"), headers={"x-request-id": "abcdef-123"})
    assert answer.headers["content-type"] == "application/json"
    assert set(json.loads(answer.body)["error"]) == {"code", "message", "request_id", "retryable"}
    assert answer.error["request_id"] == answer.headers["x-request-id"] == "abcdef-123"


async def silent_with_one_in_hand(
    stage: Stage, name: str
) -> tuple[Instance, asyncio.Task[Response]]:
    """An instance that has begun with a request and is not heard any more."""
    first = await stage.instance(name)
    first.gate.clear()
    asked = asyncio.create_task(stage.ask(name, b"x"))
    await until(lambda: first.runs, "it has begun")
    first.beating = False
    return first, asked


async def test_what_a_silent_instance_has_in_hand_is_tried_elsewhere(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=30_000)
    first, asked = await silent_with_one_in_hand(stage, name)
    second = await stage.instance(name)
    assert (await asked).status == 200
    assert len(first.runs) == len(second.runs) == 1
    first.beating = True
    first.gate.set()  # its late answer is nobody's, and its slot is free again
    await until(lambda: stage.seen(first) in stage.ready(name), "it is back")
    await until(lambda: not stage.seen(first).flights, "its slot is free")
    assert [(await stage.ask(name)).status for _ in range(4)] == [200] * 4
    assert len(first.runs) > 1


async def test_a_silent_instance_that_answers_first_is_heard(stage: Stage, unique: Names) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=30_000)
    first, asked = await silent_with_one_in_hand(stage, name)
    second = await stage.instance(name)
    second.gate.clear()
    await until(lambda: second.runs, "the other tries it too")
    first.gate.set()
    assert (await asked).status == 200
    assert not second.runs[0].answered
    second.gate.set()
    await until(lambda: not stage.seen(second).flights, "its slot is free")
    assert (await stage.ask(name)).status == 200


async def test_a_silent_instance_that_is_the_only_one_keeps_its_request(
    stage: Stage, unique: Names
) -> None:
    name = unique("ep")
    await stage.route(name, {"blue": 100}, timeout_ms=30_000)
    first, asked = await silent_with_one_in_hand(stage, name)
    await until(lambda: stage.seen(first).silent, "three heartbeats are missed")
    first.gate.set()
    assert (await asked).status == 200
    assert len(first.runs) == 1
