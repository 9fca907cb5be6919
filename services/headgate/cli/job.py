"""``headgate job``: batch jobs, watched, steered and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from headgate.cli.session import Session, client_command

if TYPE_CHECKING:
    from headgate.client.jobs import Jobs

app = typer.Typer(
    no_args_is_help=True,
    help="Batch jobs: follow, cancel, pause, resume, download.",
)

Name = Annotated[str, Option("--name", "-n", help="Name of the job.")]
COLUMNS = ("name", "status", "endpoint", "deployment", "done", "created")
LETTER_COLUMNS = ("number", "items", "attempts", "files", "error")
FINAL = ("Completed", "Failed", "Canceled")
POLL_S = 1.0
_FAILED = 1


@client_command(app, "show")
async def show(session: Session, name: Name) -> None:
    """Show one job with its progress."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        session.show(shaped(await Jobs(client).get(name)))


@client_command(app, "list")
async def list_all(session: Session) -> None:
    """List the jobs of the workspace, newest first."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        found = await Jobs(client).list_all()
        session.show([shaped(body) for body in found], COLUMNS)


@client_command(app, "stream")
async def stream(session: Session, name: Name) -> None:
    """Follow a job until it has ended. The exit code is 1 unless it is Completed."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        body = await followed(Jobs(client), name)
        session.show(shaped(body))
    end_with(body)


@client_command(app, "cancel")
async def cancel(session: Session, name: Name) -> None:
    """End a job. What is committed stays, so that it can be resumed."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        await Jobs(client).cancel(name)
        session.show(shaped(await Jobs(client).get(name)))


@client_command(app, "pause")
async def pause(session: Session, name: Name) -> None:
    """Let go of a job's nodes until it is resumed."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        session.show(shaped(await Jobs(client).order(name, "pause")))


@client_command(app, "resume")
async def resume(session: Session, name: Name) -> None:
    """Go on with a paused, failed or canceled job. Only what is missing is run."""
    from headgate.client.jobs import Jobs

    async with session.client() as client:
        session.show(shaped(await Jobs(client).order(name, "resume")))


@client_command(app, "download")
async def download(
    session: Session,
    name: Name,
    output_name: Annotated[str, Option("--output-name", help="score, the only output.")] = "score",
    download_path: Annotated[
        Path, Option("--download-path", "-p", help="Folder for the files.")
    ] = Path(),
) -> None:
    """Fetch the output of a job. It goes into <download-path>/named-outputs/score."""
    from headgate.cli import errors
    from headgate.client.jobs import Jobs

    if output_name != "score":
        raise errors.UsageError(f"--output-name {output_name!r}: a job has one output, score")
    async with session.client() as client:
        jobs = Jobs(client)
        about = (await jobs.get(name))["properties"]
        folder = download_path / "named-outputs" / output_name
        found = await jobs.download(str(about["outputs"][output_name]["uri"]), folder)
        if not found:
            errors.say(f"the job is {about['status']}; it has written no output")
        session.show([{"file": str(path), "bytes": path.stat().st_size} for path in found])


@client_command(app, "dead-letters")
async def dead_letters(
    session: Session,
    name: Name,
    redrive: Annotated[bool, Option("--redrive", help="Try them again.")] = False,
    number: Annotated[
        list[int] | None, Option("--number", help="With --redrive: only these; may be repeated.")
    ] = None,
) -> None:
    """List mini-batches that were given up, or try them again.

    A completed job's are tried by a new job, over these alone.
    """
    from headgate.cli import errors
    from headgate.client.jobs import Jobs

    if number and not redrive:
        raise errors.UsageError("--number: says what to try again, with --redrive")
    async with session.client() as client:
        if redrive:
            body = await Jobs(client).redrive(name, number or [])
            if body["name"] != name:
                errors.say(f"the job {name} is completed; {body['name']} runs what it gave up")
            session.show(shaped(body))
        else:
            session.show(await Jobs(client).dead_letters(name), LETTER_COLUMNS)


# --- what they have in common ------------------------------------------------------------------


def shaped(body: dict[str, Any]) -> dict[str, Any]:
    """A job as people read it."""
    properties = body.get("properties") or {}
    progress = properties.get("progress") or {}
    error = properties.get("error") or {}
    total = f"{progress.get('miniBatches', 0)}{'' if progress.get('isListed') else '+'}"
    return {
        "name": body.get("name"),
        "status": properties.get("status"),
        "endpoint": properties.get("endpointName"),
        "deployment": properties.get("deploymentName"),
        "done": f"{progress.get('settledMiniBatches', 0)}/{total}",
        "created": properties.get("createdDateTime"),
        "started": properties.get("startTimeUtc"),
        "ended": properties.get("endTimeUtc"),
        "progress": progress,
        "input": _uri(properties.get("inputs")),
        "output": _uri(properties.get("outputs")),
        "error": f"{error['code']}: {error['message']}" if error else None,
    }


def _uri(entries: Any) -> str | None:
    first: dict[str, Any] = next(iter((entries or {}).values()), {})
    return str(first["uri"]) if "uri" in first else None


async def followed(jobs: Jobs, name: str) -> dict[str, Any]:
    """Show how a job goes until it has ended; the job then."""
    import asyncio

    from headgate.cli.progress import Spinner

    with Spinner(f"job {name}") as spinner:
        while True:
            body = await jobs.get(name)
            spinner.update(f"job {name}: {said(body)}")
            if body["properties"]["status"] in FINAL:
                return body
            await asyncio.sleep(POLL_S)


def said(body: dict[str, Any]) -> str:
    """One line about a job: status, share done, rate, time left."""
    properties = body["properties"]
    progress = properties.get("progress") or {}
    done, total = progress.get("settledMiniBatches", 0), progress.get("miniBatches", 0)
    parts = [str(properties["status"])]
    if total:
        share = f" ({100 * done // total} %)" if progress.get("isListed") else " so far"
        parts.append(f"{done} of {total} mini-batches{share}")
    if progress.get("failedItems"):
        parts.append(f"{progress['failedItems']} items failed")
    if progress.get("miniBatchesPerSecond"):
        parts.append(f"{progress['miniBatchesPerSecond']:.3g}/s")
    if "secondsLeft" in progress:
        parts.append(f"{progress['secondsLeft']:.0f} s left")
    return ", ".join(parts)


def end_with(body: dict[str, Any]) -> None:
    """Exit code 1 for a job that has ended and is not Completed."""
    if body["properties"]["status"] in FINAL[1:]:
        raise typer.Exit(_FAILED)
