"""The Test tab: a request written by hand, its answer, and the same for other programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from nicegui import ui

from headgate.client.access import Access
from headgate.client.api import Found
from headgate.client.scoring import DEPLOYMENT_HEADER, Scored, score
from headgate.portal import core
from headgate.portal.pages.frame import Code, editor, guarded
from headgate.portal.sessions import Session
from headgate_contracts import limits
from headgate_contracts.errors import HeadgateError
from headgate_contracts.resources import EndpointSpec

_ANYWHERE = "by the traffic split"
_SAMPLE = '{\n  "data": [[1, 2, 3]]\n}'
_SHOWN_CHARS_MAX = 200_000


def draw(session: Session, found: Found[EndpointSpec], deployments: list[str], ca: str) -> None:
    """The tab of one endpoint."""
    if not session.right.can_see_keys:
        ui.label("Sending requests from here needs the role owner: it uses the endpoint's key.")
        return
    name = found.spec.name
    uri = str(found.properties.get("scoringUri", ""))
    with ui.element("div").classes("two"):
        with ui.column():
            choice = ui.select([_ANYWHERE, *deployments], value=_ANYWHERE, label="Deployment")
            choice.style("min-width: 14rem")
            request = editor(_SAMPLE, "JSON", "Request body", "16rem")
            with ui.row():
                send = ui.button("Send", icon="send").props("no-caps")
                sample = ui.button("Sample from the script", icon="science")
                sample.props("flat no-caps")
        with ui.column():
            status = ui.label("No request yet").classes("figure").props("role=status")
            timing = ui.label().classes("quiet")
            with ui.expansion("Headers").classes("full-width") as told:
                headers = ui.label().classes("mono wrap")
            told.bind_visibility_from(headers, "text")
            answer = ui.label().classes("mono wrap lane")
            answer.bind_visibility_from(answer, "text")

    def chosen() -> str:
        return "" if choice.value == _ANYWHERE else str(choice.value)

    def show(scored: Scored, took_ms: float) -> None:
        status.set_text(f"{scored.status} {scored.reason}")
        model_ms = scored.headers.get("x-ms-run-fn-exec-ms")
        served = scored.headers.get(DEPLOYMENT_HEADER, "")
        parts = [f"{took_ms:.1f} ms in all"]
        parts += [f"{float(model_ms):.1f} ms in run()"] if model_ms else []
        parts += [f"served by {served}"] if served else []
        timing.set_text(" · ".join(parts))
        headers.set_text("\n".join(f"{key}: {text}" for key, text in scored.headers.items()))
        answer.set_text(core.pretty(scored.body.decode("utf-8", "replace"))[:_SHOWN_CHARS_MAX])

    async def go() -> None:
        body = (request.value or "").encode()
        if len(body) > limits.CONTROL_BODY_BYTES_MAX:
            ui.notify("that is too large for this page; use the command line", type="warning")
            return
        secret = await Access(session.client).scoring_secret(found)
        send.props("loading")
        begun = time.perf_counter()
        try:
            scored = await score(session.target, uri, secret, body, deployment=chosen())
            show(scored, 1000 * (time.perf_counter() - begun))
        finally:
            send.props(remove="loading")

    async def fill() -> None:
        secret = await Access(session.client).scoring_secret(found)
        text = await _sample(session, uri, secret, chosen())
        if text:
            request.set_value(text)
        else:
            ui.notify("the script describes no sample; decorators of inference-schema would")

    send.on_click(guarded(go))
    sample.on_click(guarded(fill))
    _snippets(name, uri, request, chosen, ca)


def _snippets(
    name: str, uri: str, request: ui.codemirror, chosen: Callable[[], str], ca: str
) -> None:
    with ui.expansion("Copy as curl, Python, command line").classes("full-width"):
        ui.label("The key is read from the variable KEY.").classes("quiet")
        shown = {form: Code(form) for form in ("curl", "python", "az")}

        def refresh() -> None:
            made = core.snippets(
                endpoint=name,
                uri=uri,
                body=str(request.value),
                deployment=chosen(),
                ca=ca,
                header=DEPLOYMENT_HEADER,
            )
            for form, code in shown.items():
                code.set_content(getattr(made, form))

        refresh()
        request.on_value_change(refresh)


async def _sample(session: Session, uri: str, secret: str, deployment: str) -> str:
    """The sample input in the script's own description; empty when there is none."""
    address = uri.removesuffix("/score") + "/swagger.json?version=3"
    try:
        found = await score(
            session.target, address, secret, b"", deployment=deployment, method="GET"
        )
        example = core.sample_of(json.loads(found.body))
    except (HeadgateError, ValueError):
        return ""
    return json.dumps(example, indent=2) if example is not None else ""
