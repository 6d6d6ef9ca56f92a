"""`pot-lab order`: order a training from files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pot_lab.cli.common import FILE, account_option, connect_lab, json_option, network_option
from pot_lab.cli.orders import order_facts
from pot_lab.errors import PotLabError


@click.command
@click.option("--graph", type=FILE, required=True, metavar="FILE", help="graph.json from pot_lab.export_model.")
@click.option(
    "--weights", type=FILE, required=True, metavar="FILE", help="weights.safetensors from pot_lab.export_model."
)
@click.option("--train", type=FILE, required=True, metavar="FILE", help="Data set file from pot_lab.pack_dataset.")
@click.option(
    "--test", type=FILE, required=True, metavar="FILE", help="The same, for the part published after the deadline."
)
@click.option("--reward", required=True, metavar="POT", help="For the best model and those who establish it.")
@click.option("--train-for", required=True, metavar="TIME", help="How long providers may train, e.g. 10min.")
@click.option("--score", default="accuracy", show_default=True, help="Score function.")
@click.option("--title", default="", help="Shown to all participants.")
@click.option("--wait", is_flag=True, help="Return when the order is paid.")
@network_option
@account_option
@json_option
def order(
    graph: Path,
    weights: Path,
    train: Path,
    test: Path,
    reward: str,
    train_for: str,
    score: str,
    title: str,
    wait: bool,
    network: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Order a training from files.

    Checks and encrypts them, uploads them to the store, posts the order and pays its reward into escrow.
    """
    from pot_lab.scoring import ModelArtifact

    with connect_lab(network, account) as lab:
        artifact = ModelArtifact(graph=_read(graph), weights=_read(weights))
        placed = lab.order(artifact, train, test, reward=reward, train_for=train_for, score=score, title=title)
        if wait:
            placed.wait(settled=True)
        click.echo(json.dumps(order_facts(placed.view())) if as_json else repr(placed))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PotLabError("a file cannot be read", seen=f"{path}: {error.strerror}") from error
