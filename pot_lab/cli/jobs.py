"""`pot-lab jobs`: what runs and ran on this host, its progress and log, and an end or another run for it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import GroupWithDefault, json_option, print_aside

if TYPE_CHECKING:
    from pot_lab.jobs.registry import Job
    from pot_lab.jobs.runner import JobRunner

GIB = 1 << 30
FOLLOW_S = 0.2
LOG_TAIL_BYTES = 1 << 20
_job_argument = click.argument("job", metavar="JOB")


@click.group(cls=GroupWithDefault, default="list")
def jobs() -> None:
    """Notebook jobs of this host, and the room that they take.

    Without a command: list. JOB is a job's id, or the first characters of it if no other begins so.
    """


@jobs.command(name="list")
@click.option("--last", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the newest.")
@json_option
def list_jobs(last: int, as_json: bool) -> None:
    """List jobs, the newest first, with why they failed."""
    from pot_lab import home
    from pot_lab.jobs import registry
    from pot_lab.jobs.prune import size_of

    found = list(reversed(registry.find(home.home())[-last:]))
    rows = [
        {
            "id": job.id,
            "kind": job.kind,
            "state": _state(job),
            "created_ms": job.created_ms,
            "size_bytes": size_of(job.directory),
            "error": job.error,
            "notebook": str(job.output),
        }
        for job in found
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    if not rows:
        print_aside("no job has run on this host")
    for job, row in zip(found, rows, strict=True):
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.created_ms / 1000))
        why = job.error
        tail = f"  {why.get('name')}: {why.get('message')} (cell {why.get('cell')}, {job.output})" if why else ""
        click.echo(f"{job.id:<40} {row['state']:<9} {began}  {int(str(row['size_bytes'])) / (1 << 20):8.1f} MiB{tail}")


@jobs.command
@_job_argument
@json_option
def show(job: str, as_json: bool) -> None:
    """Show one job, and why it failed.

    Its state, the last progress that it reported, its parameters and files.
    """
    facts = job_facts(_find(job))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value not in (None, {}, ""):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            click.echo(f"{name:<10} {text}")


@jobs.command
@_job_argument
@click.option("--lines", type=click.IntRange(min=0), default=50, show_default=True, help="How many, the last.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends.")
@json_option
def log(job: str, lines: int, follow: bool, as_json: bool) -> None:
    """Print the end of a job's log.

    It holds what the notebook and its supervisor printed.
    """
    found = _find(job)
    text, place = _log_from(found, -LOG_TAIL_BYTES)
    tail = text.splitlines()[-lines:] if lines else []
    if as_json:
        click.echo(json.dumps({"id": found.id, "lines": tail}))
        return
    for line in tail:
        click.echo(line)
    while follow:
        running = found.state == "running"
        text, place = _log_from(found, place)
        if text:
            click.echo(text, nl=False)
        elif not running:
            return
        else:
            time.sleep(FOLLOW_S)


@jobs.command
@_job_argument
@click.option("--no-wait", is_flag=True, help="Return at once.")
@json_option
def stop(job: str, no_wait: bool, as_json: bool) -> None:
    """Stop a job for good: its notebook is interrupted and saved.

    A kernel that does not heed that is killed after ten seconds. A miner does not resume a job that was stopped so.
    """
    found = _find(job)
    if found.state == "running":
        found.cancel()
        print_aside(f"{found.id}: stopping")
        if not no_wait:
            found.wait()
    _print_state(found, as_json)


@jobs.command
@_job_argument
@json_option
def resume(job: str, as_json: bool) -> None:
    """Run a job that ended early once more.

    One that was lost, failed or cancelled; it goes on from its checkpoints.
    """
    _print_state(_runner().resume(_find(job).id), as_json)


@jobs.command
@_job_argument
@json_option
def rerun(job: str, as_json: bool) -> None:
    """Start a new job like one that has ended.

    With the same notebook and parameters, in a folder of its own.
    """
    _print_state(_runner().rerun(_find(job).id), as_json)


@jobs.command
@click.option("--days", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Keep what ended since.")
@click.option("--gib", type=click.FloatRange(min=0), default=64.0, show_default=True, help="Keep at most so much.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def prune(days: float, gib: float, dry_run: bool, as_json: bool) -> None:
    """Remove jobs, orders and downloads that are over, by age and size.

    Nothing is touched that still runs, or that an order needs which has not ended. `pot-lab mine` does the same once an
    hour with the defaults.
    """
    from pot_lab import home
    from pot_lab.jobs.prune import DAY_S
    from pot_lab.jobs.prune import prune as remove

    done = remove(home.home(), keep_s=days * DAY_S, keep_bytes=round(gib * GIB), dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"jobs": done.jobs, "orders": done.orders, "size_bytes": done.size_bytes}))
        return
    verb = "would remove" if dry_run else "removed"
    click.echo(
        f"{verb} {done.jobs} jobs and {done.orders} orders, {done.size_bytes / (1 << 20):.1f} MiB with downloads"
    )


def job_facts(job: Job) -> dict[str, Any]:
    """What `show` prints: times in ms since 1970, the last progress that the notebook reported."""
    record = job.record()
    progress = job.events("progress")
    cells = job.events("cell_started")
    return {
        "id": job.id,
        "kind": job.kind,
        "state": _state(job),
        "attempt": record.get("attempt", 1),
        "started_ms": record.get("started_ms"),
        "ended_ms": record.get("ended_ms"),
        "pid": job.pid,
        "cell": cells[-1]["cell"] if cells else None,
        "progress": progress[-1].get("data") if progress else None,
        "error": job.error,
        "parameters": job.parameters,
        "notebook": str(job.output),
        "log": str(job.log),
    }


def _state(job: Job) -> str:
    return "stopping" if job.is_stopping else job.state


def _print_state(job: Job, as_json: bool) -> None:
    state = _state(job)
    click.echo(json.dumps({"id": job.id, "state": state}) if as_json else f"{job.id}: {state}")


def _find(text: str) -> Job:
    from pot_lab import home
    from pot_lab.jobs import registry

    return registry.match(home.home(), text)


def _runner() -> JobRunner:
    from pot_lab import home
    from pot_lab.jobs.runner import JobRunner

    return JobRunner(home.home())


def _log_from(job: Job, place: int) -> tuple[str, int]:
    """The log's text from a byte on (from the end, where negative), and where it ends now."""
    try:
        with job.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size + place) if place < 0 else place)
            return file.read().decode(errors="replace"), file.tell()
    except FileNotFoundError:
        return "", 0
