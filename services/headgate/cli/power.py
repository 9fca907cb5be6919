"""Stops and starts deployments: one, or all of an endpoint."""

from __future__ import annotations

from headgate.cli import shapes
from headgate.cli.errors import say
from headgate.cli.online_deployment import LIST_COLUMNS
from headgate.cli.session import Session
from headgate.cli.waiting import tell_started, wait


async def set_power(
    session: Session, endpoint: str, deployment: str = "", *, stops: bool, no_wait: bool
) -> None:
    """Without a ``deployment`` all of the endpoint: all are asked before any is waited for."""
    doing = "stopping" if stops else "starting"
    async with session.client() as client:
        if deployment:
            names = [deployment]
        else:
            await client.get_endpoint(endpoint)
            names = [each.spec.name for each in await client.list_deployments(endpoint)]
        change = client.stop_deployment if stops else client.start_deployment
        begun = {name: await change(endpoint, name) for name in names}
        for name, started in begun.items():
            text = f"{doing} deployment {name}"
            if no_wait:
                tell_started(started, text)
            else:
                await wait(session, client, started, text, deployment=(endpoint, name))
        if no_wait:
            return
        if not names:
            say(f"the endpoint {endpoint!r} has no deployments")
        shown = [shapes.deployment(await client.get_deployment(endpoint, name)) for name in names]
        if deployment:
            session.show(shown[0])
        else:
            session.show(shown, LIST_COLUMNS)
