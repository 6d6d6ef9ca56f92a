"""`pot-lab params`: the network's parameters, and the proposals to change them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pot_lab.cli.common import account_option, connect_lab, json_option, network_option

if TYPE_CHECKING:
    from pot_lab.protocol.views import GovernanceView


@click.command
@click.argument("name", required=False)
@network_option
@account_option
@json_option
def params(name: str | None, network: str | None, account: str | None, as_json: bool) -> None:
    """Show the parameters in force and the proposals to change them.

    NAME: show only parameters whose name has this in it.
    """
    with connect_lab(network, account) as lab:
        view = lab.governance.view()
    click.echo(json.dumps(governance_facts(view)) if as_json else governance_text(view, name or ""))


def governance_facts(view: GovernanceView) -> dict[str, Any]:
    """What `--json` prints: parameters by name, version, bond, and proposals."""
    from pot_lab.crypto.identity import format_address
    from pot_lab.protocol.proposals import value_of

    def plain(value: Any) -> Any:
        return format_address(value) if isinstance(value, bytes) else value

    parameters = view.parameters
    return {
        "version": view.version,
        "since": view.since,
        "bond_grains": view.bond_grains,
        "parameters": {name: plain(getattr(parameters, name)) for name in parameters.__struct_fields__},
        "proposals": [
            {
                "proposal": each.number,
                "proposer": format_address(each.proposer),
                "changes": {one.name: plain(value_of(one)) for one in each.changes},
                "version": each.version,
                "install": each.install,
                "outcome": each.outcome,
                "for_grains": each.for_grains,
                "against_grains": each.against_grains,
                "total_grains": each.total_grains,
                "closes_ms": each.closes_ms,
                "activates_ms": each.activates_ms,
            }
            for each in view.proposals
        ],
        "contract_acts": [
            {
                "proposal": act.proposal,
                "signed_by": [format_address(who) for who, _ in act.signatures],
                "signatures_wanted": act.quorum,
                "until_ms": act.until_ms,
            }
            for act in view.acts
        ],
    }


def governance_text(view: GovernanceView, name: str) -> str:
    """Parameters whose names hold `name`, version and proposals, in lines for a person."""
    from pot_lab.notebook.governance import proposal_text, value_text
    from pot_lab.notebook.quantities import pot

    names = [each for each in view.parameters.__struct_fields__ if name in each]
    lines = [f"{each:<30} {value_text(each, getattr(view.parameters, each))}" for each in names]
    if not name:
        lines.append(f"version {view.version} of the rules, since batch {view.since}")
        lines.append(f"a proposal bonds {pot(view.bond_grains)} POT")
        lines += [proposal_text(each) for each in view.proposals] or ["no proposals"]
        lines += [
            f"contracts follow proposal {act.proposal}: signed by {len(act.signatures)}, {act.quorum} are needed"
            for act in view.acts
        ]
    return "\n".join(lines)
