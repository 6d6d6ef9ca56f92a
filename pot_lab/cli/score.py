"""`pot-lab score`: the score of files, on any machine, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pot_lab.cli.common import FILE, json_option
from pot_lab.errors import PotLabError


@click.command
@click.option("--graph", type=FILE, required=True, metavar="FILE", help="graph.json from pot_lab.export_model.")
@click.option("--weights", type=FILE, required=True, metavar="FILE", help="weights.safetensors that fit the graph.")
@click.option("--data", type=FILE, required=True, metavar="FILE", help="Data set file from pot_lab.pack_dataset.")
@click.option("--function", default="accuracy", show_default=True, help="Score function, e.g. accuracy/1.")
@click.option(
    "--slices",
    type=click.Choice([1, 2]),
    default=1,
    show_default=True,
    help="2: close to float64, and another score.",
)
@click.option("--batch-size", type=int, help="Examples at once; no bit of the score depends on it.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda; no bit of the score depends on it.")
@click.option(
    "--workers",
    type=int,
    default=1,
    show_default=True,
    help="Processes that share the work; no bit of the score depends on them.",
)
@click.option("--transcript", type=FILE, metavar="FILE", help="Where to write the score's transcript.")
@json_option
def score(
    graph: Path,
    weights: Path,
    data: Path,
    function: str,
    slices: int,
    batch_size: int | None,
    device: str,
    workers: int,
    transcript: Path | None,
    as_json: bool,
) -> None:
    """Score a model's files exactly, without a network.

    First checks that this machine's arithmetic gives the known answers. The same files give the same bits on every
    machine (scoring-spec.md in the documentation).
    """
    from pot_lab.scoring.evaluate import score_file
    from pot_lab.scoring.self_test import run_self_test

    run_self_test("cuda" if device.startswith("cuda") else "cpu")
    try:
        found = score_file(
            graph, weights, data, function, batch_size=batch_size, device=device, slices=slices, workers=workers
        )
        if transcript is not None:
            transcript.write_bytes(found.transcript.data)
    except OSError as problem:
        raise PotLabError(
            "a file cannot be read or written", seen=f"{problem.filename}: {problem.strerror}"
        ) from problem
    if as_json:
        facts = {
            "function": found.function.identifier,
            "total": found.total,
            "count": found.count,
            "valid": found.valid,
            "digest": found.digest.hex(),
            "root": found.root.hex(),
        }
        click.echo(json.dumps(facts))
        return
    click.echo(f"function  {found.function.identifier}: {found.function.unit}")
    click.echo(f"score     {found.total} over {found.count} examples" if found.valid else "score     invalid")
    if not found.valid:
        click.echo(f"          {found.total} of {found.count} examples have no finite result")
    click.echo(f"digest    {found.digest.hex()}")
    click.echo(f"root      {found.root.hex()}")
