"""What the demonstration does, phase by phase. Each phase returns the checks it made."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from headgate.demo import core, traffic
from headgate.demo.core import Answer, Check
from headgate.demo.observe import Observer
from headgate.demo.report import Report
from headgate.demo.system import EXAMPLES, DemoError, System, train
from headgate.demo.traffic import HeldOut, Scorer
from headgate_contracts import limits

T = TypeVar("T")

ENDPOINT = "digits"
FOLDER = EXAMPLES / "digits"
SPLIT = {"blue": 90, "green": 10}
MIRROR_PERCENT = 30
HEADER_REQUESTS = 300
MIRROR_REQUESTS = 1_500
SPREAD_TIMEOUT_S = 10.0
_POLL_S = 0.05
_PROBES = 12
_EVENTS_SHOWN = 24


@dataclass
class Stage:
    """What the phases share."""

    system: System
    report: Report
    requests: int
    scorer: Scorer
    observer: Observer
    key: str = ""
    checks: list[Check] = field(default_factory=list)

    async def send(self, label: str, images: int, *, deployment: str = "") -> list[Answer]:
        """Send images under a progress bar."""
        with self.report.progress(label, images) as advance:
            return await self.scorer.send(
                images, self.key, deployment=deployment, on_answer=advance
            )

    async def set_traffic(self, split: str, mirror: str = "") -> None:
        flags = ("--traffic", split, *(("--mirror-traffic", mirror) if mirror else ()))
        await self.command("online-endpoint", "update", "--name", ENDPOINT, *flags)

    async def command(self, *arguments: str | Path) -> None:
        """Run one ``headgate`` command and show it."""
        await _command(self.system, self.report, *arguments)


async def boot(system: System, report: Report, models: Path) -> HeldOut:
    """Start Headgate and train the models, at the same time."""
    if not FOLDER.is_dir():
        raise DemoError(f"the demonstration needs the folder {FOLDER}: run it in a source tree")
    report.phase("Boot and train", "A private bus, the services and two scikit-learn models.")
    begun = time.monotonic()
    with report.console.status("starting Headgate, training the models"):
        trained = await _both(train(models), system.start())
    report.did(f"[cyan]headgate up --data {short(system.data)}", time.monotonic() - begun)
    for line in trained.output.splitlines() if trained else ():
        report.did(line)
    if trained is None:
        report.did(f"both models are trained already: {short(models)}")
    return HeldOut.load(models / "held_out.json")


async def deploy(system: System, report: Report) -> str:
    """Two models behind one endpoint, from Azure's YAML files; the scoring address."""
    report.phase("Deploy", "Two models behind one endpoint, from Azure's own YAML files.")
    create = ("online-deployment", "create", "-f")
    await _command(system, report, "online-endpoint", "create", "-f", FOLDER / "endpoint.yml")
    await _command(system, report, *create, FOLDER / "blue.yml", "--all-traffic")
    await _command(system, report, *create, FOLDER / "green.yml")
    show = ("online-endpoint", "show", "--name", ENDPOINT, "--output", "json")
    return str(json.loads((await system.cli(*show)).output)["scoring_uri"])


async def split(stage: Stage) -> None:
    """A tenth of the live traffic goes to the better model."""
    stage.report.phase(
        "Split",
        f"{SPLIT['blue']} % of the requests for blue, {SPLIT['green']} % for green; "
        "'accepted' is where an honest split ends up all but once in a million times.",
    )
    await stage.set_traffic(" ".join(f"{name}={share}" for name, share in SPLIT.items()))
    await _until(lambda: _answered_by(stage, "green"), "green gets its share of the traffic")
    begun = time.monotonic()
    answers = await stage.send("real images over HTTPS", stage.requests)
    rows = core.served(answers, SPLIT)
    stage.report.shares(rows, time.monotonic() - begun)
    stage.checks += [core.all_answered(answers), core.split_kept(rows)]


async def header(stage: Stage) -> None:
    """A request may name its deployment, whatever the split says."""
    stage.report.phase(
        "Header", f"green has no traffic; requests with '{traffic.DEPLOYMENT_HEADER}: green' do."
    )
    await stage.set_traffic("blue=100 green=0")
    await _until(lambda: _only_blue(stage), "green gets no traffic any more")
    answers = await stage.send("with the header", HEADER_REQUESTS, deployment="green")
    promise = "the header reaches a deployment at 0 %"
    stage.checks.append(core.only_from(answers, "green", promise))


async def mirror(stage: Stage) -> None:
    """green sees copies of live requests, and no client sees its answers."""
    stage.report.phase(
        "Mirror",
        f"{MIRROR_PERCENT} % of the requests are copied to green; its answers are only counted.",
    )
    await stage.set_traffic("blue=100 green=0", f"green={MIRROR_PERCENT}")
    await _until(lambda: _mirrors(stage), "requests are copied to green")
    before = await stage.observer.settled_copies("green")
    answers = await stage.send("with a mirror", MIRROR_REQUESTS)
    copies = await stage.observer.settled_copies("green") - before
    promise = "no client is answered by a mirror"
    stage.checks += [
        core.only_from(answers, "blue", promise),
        core.mirror_kept(copies, len(answers), MIRROR_PERCENT),
    ]
    await stage.set_traffic("blue=100 green=0", "green=0")


async def keys(stage: Stage) -> None:
    """A key that is replaced stops working within seconds; the other goes on."""
    stage.report.phase("Keys", "The primary key is replaced while clients use the secondary.")
    old = stage.key
    credentials = ("online-endpoint", "get-credentials", "--name", ENDPOINT, "--output", "json")
    other = json.loads((await stage.system.cli(*credentials)).output)["secondaryKey"]
    await stage.command("online-endpoint", "regenerate-keys", "--name", ENDPOINT)
    begun = time.monotonic()
    seconds = None
    while time.monotonic() - begun < 2 * limits.KEY_REVOCATION_S_MAX:
        (answer,) = await stage.scorer.send(1, old)
        if answer.status == 401:
            seconds = time.monotonic() - begun
            break
        await asyncio.sleep(_POLL_S)
    stage.checks.append(core.revoked_in_time(seconds, limits.KEY_REVOCATION_S_MAX))
    stage.key = json.loads((await stage.system.cli(*credentials)).output)["primaryKey"]
    answers = [*await stage.scorer.send(_PROBES, other), *await stage.send("new key", _PROBES)]
    good = sum(answer.status == 200 for answer in answers)
    found = f"{good} of {len(answers)} answered"
    stage.checks.append(Check("the other key and the new one work", good == len(answers), found))


async def trail(stage: Stage) -> None:
    """Everything above was a fact on the bus as well."""
    stage.report.phase("Event trail", "Every change was published on the bus as it happened.")
    events = await stage.observer.events()
    stage.report.events(events[-_EVENTS_SHOWN:])
    told = {event.what for event in events}
    wanted = {"endpoint created", "deployment succeeded", "instance ready"}
    wanted |= {"endpoint traffic_changed", "endpoint key_regenerated"}
    missing = ", ".join(sorted(wanted - told))
    found = f"missing: {missing}" if missing else f"{len(events)} events"
    stage.checks.append(Check("every change is told on the bus", not missing, found))


PHASES: tuple[Callable[[Stage], Awaitable[None]], ...] = (split, header, mirror, keys, trail)


async def _answered_by(stage: Stage, deployment: str) -> bool:
    answers = await stage.scorer.send(_PROBES, stage.key)
    return any(answer.deployment == deployment for answer in answers)


async def _only_blue(stage: Stage) -> bool:
    answers = await stage.scorer.send(4 * _PROBES, stage.key)
    return all(answer.deployment == "blue" for answer in answers)


async def _mirrors(stage: Stage) -> bool:
    before = await stage.observer.copies("green")
    await stage.scorer.send(_PROBES, stage.key)
    return await stage.observer.settled_copies("green") > before


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Routers hear of a change through the bus, a moment after the command has returned."""
    try:
        async with asyncio.timeout(SPREAD_TIMEOUT_S):
            while True:
                if await condition():
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise DemoError(f"not within {SPREAD_TIMEOUT_S:g} s: {what}") from None


async def _command(system: System, report: Report, *arguments: str | Path) -> None:
    shown = " ".join(map(short, arguments))
    with report.console.status(f"headgate {shown}"):
        ran = await system.cli(*arguments)
    report.did(f"[cyan]headgate {shown}", ran.seconds)


async def _both(training: Coroutine[Any, Any, T], starting: Coroutine[Any, Any, None]) -> T:
    """Run two things at once; the first failure ends the other and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            trained = group.create_task(training)
            group.create_task(starting)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return trained.result()


def short(argument: str | Path) -> str:
    """A command line argument as a person would type it here."""
    if isinstance(argument, str):
        return f'"{argument}"' if " " in argument else argument
    try:
        return str(argument.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(argument)
