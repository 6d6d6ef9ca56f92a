"""`pot-lab propose`: other parameters, or the next version of the rules, for the network's members to vote on."""

from __future__ import annotations

import json

import click

from pot_lab.cli.common import account_option, connect_lab, json_option, network_option


@click.command
@click.argument("changes", nargs=-1, metavar="NAME=VALUE...")
@click.option(
    "--rules-version", type=int, metavar="N", help="Propose the next version of the protocol's rules instead."
)
@click.option("--install", default="", metavar="RELEASE", help="With --rules-version: the release that knows it.")
@click.option(
    "--role",
    type=click.Choice(["provider", "validator", "verifier", "aggregator"]),
    help="Of which stake the bond is (default: the role with most).",
)
@network_option
@account_option
@json_option
def propose(
    changes: tuple[str, ...],
    rules_version: int | None,
    install: str,
    role: str | None,
    network: str | None,
    account: str | None,
    as_json: bool,
) -> None:
    """Propose other parameters, with a bond of the account's stake.

    VALUE is a whole number in the unit of the name, numbers separated by commas, or an account.
    """
    if bool(changes) == (rules_version is not None):
        raise click.UsageError("either NAME=VALUE or --rules-version is needed")
    values = dict(_pair(each) for each in changes)
    with connect_lab(network, account) as lab:
        if rules_version is None:
            number = lab.governance.propose(role=role, **values)
        else:
            number = lab.governance.propose_version(rules_version, install, role=role)
        click.echo(json.dumps({"proposal": number}) if as_json else f"proposal {number}: pot-lab vote {number} yes")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier() or name == "role":
        raise click.UsageError(f"{text!r} is not NAME=VALUE")
    return name, value
