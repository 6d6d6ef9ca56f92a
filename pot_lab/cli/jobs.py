"""`pot-lab jobs`: what ran on this host, and an end for it."""

from __future__ import annotations

import json
import time

import click

from pot_lab.cli.common import GroupWithDefault, json_option, print_aside

GIB = 1 << 30


@click.group(cls=GroupWithDefault, default="list")
def jobs() -> None:
    """Notebook jobs of this host, and the room that they take.

    Without a command: list.
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
            "state": job.state,
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
