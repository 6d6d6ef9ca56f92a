"""`pot-lab params`, `propose` and `vote`: wrong usage is named; the commands themselves run in test_real_network.py."""

from __future__ import annotations

import pytest
from msgspec import structs

from pot_lab.cli.main import main
from pot_lab.cli.params import governance_facts, governance_text
from pot_lab.protocol.parameters import Parameters
from pot_lab.protocol.proposals import OwnerActSignature, change
from pot_lab.protocol.views import GovernanceView, OwnerActView, ProposalView

VIEW = GovernanceView(
    parameters=Parameters(),
    version=1,
    since=0,
    bond_grains=20 * 10**9,
    proposals=(
        ProposalView(
            number=4,
            proposer=b"\x01" * 20,
            bond_grains=10**10,
            changes=(change("winner_bp", 7_000), change("treasury", b"\x02" * 20)),
            version=0,
            install="",
            for_grains=1,
            against_grains=2,
            total_grains=8,
            quorum_bp=4_000,
            majority_bp=6_667,
            closes_ms=5,
            activates_ms=0,
            outcome="voting",
        ),
    ),
)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["propose"], "either NAME=VALUE or --rules-version is needed"),
        (["propose", "update_ms=1", "--rules-version", "2"], "either NAME=VALUE or --rules-version is needed"),
        (["propose", "update_ms"], "'update_ms' is not NAME=VALUE"),
        (["propose", "=1"], "'=1' is not NAME=VALUE"),
        (["propose", "role=1"], "'role=1' is not NAME=VALUE"),
        (["propose", "update_ms=1", "--role", "king"], "'king' is not one of"),
        (["vote", "1"], "Missing argument"),
        (["vote", "1", "maybe"], "'maybe' is not one of 'yes', 'no'"),
        (["vote", "one", "yes"], "'one' is not a valid integer"),
    ],
)
def test_wrong_usage_is_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert error in capsys.readouterr().err


def test_parameters_and_proposals_in_lines() -> None:
    lines = governance_text(VIEW, "").splitlines()
    assert lines[-3:] == [
        "version 1 of the rules, since batch 0",
        "a proposal bonds 20 POT",
        f"    4  voting      winner_bp = 7000 (70 %); treasury = 0x{'02' * 20}  (12.5 % for, 25.0 % against)",
    ]
    assert len(lines) == len(Parameters.__struct_fields__) + 3
    assert governance_text(VIEW, "voting").splitlines() == ["voting_ms                      259200000 (72 h 0 min)"]


def test_facts_are_the_ledgers() -> None:
    found = governance_facts(VIEW)
    assert found["parameters"]["winner_bp"] == 8_000 and found["bond_grains"] == 20 * 10**9
    assert found["proposals"][0]["changes"] == {"winner_bp": 7_000, "treasury": f"0x{'02' * 20}"}


def test_it_is_told_who_has_signed_what_the_contracts_follow() -> None:
    signature = OwnerActSignature(number=1, digest=bytes(32), signature=bytes(65))
    act = OwnerActView(proposal=4, until_ms=9, quorum=3, signatures=((b"\x03" * 20, signature),))
    view = structs.replace(VIEW, acts=(act,))
    assert governance_text(view, "").splitlines()[-1] == "contracts follow proposal 4: signed by 1, 3 are needed"
    assert governance_facts(VIEW)["contract_acts"] == []
    assert governance_facts(view)["contract_acts"] == [
        {"proposal": 4, "signed_by": [f"0x{'03' * 20}"], "signatures_wanted": 3, "until_ms": 9}
    ]
