"""`pot-lab metrics`: what the aggregators of any network count, seen from outside."""

from __future__ import annotations

import json

import click

from pot_lab.cli.common import json_option, network_option


@click.command
@network_option
@click.option("--index", type=click.IntRange(min=0), help="Only this aggregator (default: all).")
@click.pass_context
@json_option
def metrics(context: click.Context, network: str | None, index: int | None, as_json: bool) -> None:
    """Print what aggregators count, in Prometheus' text form.

    Each value has the label `aggregator`. An aggregator that does not answer has `pot_lab_up` 0; exit code 1 if none
    answers.
    """
    from pot_lab.discovery import find_network
    from pot_lab.network.client.client import NetworkClient
    from pot_lab.network.config import NetworkConfig
    from pot_lab.network.errors import BadConfig

    config = NetworkConfig.load(find_network(network)[0])
    if index is not None and index >= config.n:
        raise BadConfig("the network has no such aggregator", seen=index, wanted=f"0 .. {config.n - 1}")
    told: dict[int, dict[str, int]] = {}
    with NetworkClient(config) as client:
        for each in client.status().result(10):
            if index is None or each.index == index:
                told[each.index] = {"up": int(each.reachable)}
        for number in [number for number, values in told.items() if values["up"]]:
            told[number] |= _values(client.ask(number, "metrics").result(11))
    if as_json:
        click.echo(json.dumps({str(number): values for number, values in told.items()}))
    else:
        for name in sorted({name for values in told.values() for name in values}):
            for number, values in told.items():
                if name in values:
                    click.echo(f'pot_lab_{name}{{aggregator="{number}"}} {values[name]}')
    context.exit(0 if any(values["up"] for values in told.values()) else 1)


def _values(text: bytes) -> dict[str, int]:
    """The values of one aggregator's text by name; lines that are none are left out."""
    found = {}
    for line in text.decode("ascii", "replace").splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("pot_lab_") and value.lstrip("-").isdecimal():
            found[name.removeprefix("pot_lab_")] = int(value)
    return found
