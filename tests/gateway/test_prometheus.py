"""``/metrics`` of the gateway: what routers report, for those who may see it."""

from __future__ import annotations

from typing import Any

from gateway.harness import Api, Connect
from headgate.runtime.clock import SystemClock
from headgate_contracts.load import DeploymentLoad, LoadReported


async def test_what_routers_report_is_on_the_page(api: Api, connect: Connect, unique: Any) -> None:
    router = await connect("router")
    name = unique("ep")
    load = DeploymentLoad(workspace="local", endpoint=name, deployment="blue", statuses={200: 7})
    report = LoadReported(
        router=name, seq=1, since=SystemClock().now() + 1, mono_s=0.0, deployments=(load,)
    )
    wanted = f'workspace="local",endpoint="{name}",deployment="blue",code="200"}} 7'
    while True:
        await router.publish(report.subject(), report.model_dump_json().encode())
        reply = await api.get("/metrics")
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        if f"headgate_requests_total{{{wanted}" in reply.raw.decode():
            break
    assert (await api.get("/metrics", token="wrong")).status == 401
