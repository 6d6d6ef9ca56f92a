"""`lab.governance`: what a member types becomes changes that the ledger takes, and comes back readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pot_lab.network.client.ledger import LedgerClient
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.governance import GovernanceCalls, changes_of, proposal_text, value_text
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.proposals import change, value_of
from tests.notebook.in_process import FollowedWorld, InProcessTransport, config_of
from tests.protocol.world import POT, key


def calls(world: FollowedWorld, name: str, folder: Path) -> GovernanceCalls:
    identity = key(name)
    config = config_of(world, str(folder / "store"))
    return GovernanceCalls(LedgerClient(config, identity, transport=InProcessTransport(world)), identity)


@pytest.mark.parametrize(
    ("name", "given", "carried"),
    [
        ("update_ms", 120_000, 120_000),
        ("update_ms", "120_000", 120_000),
        ("usual_windows_ms", [60_000] * 7, (60_000,) * 7),
        ("min_stake_grains", "1, 2,3,4", (1, 2, 3, 4)),
        ("treasury", "0x" + "ab" * 20, bytes.fromhex("ab" * 20)),
        ("treasury", b"\x07" * 20, b"\x07" * 20),
    ],
)
def test_values_are_taken_as_people_write_them(name: str, given: Any, carried: Any) -> None:
    (one,) = changes_of({name: given})
    assert (one.name, value_of(one)) == (name, carried)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gravity": 1}, "there is none of this name"),
        ({"unbonding_ms": 1}, "the stake contract on the chain decides it"),
        ({"update_ms": "2 min"}, "wanted: a whole number"),
        ({"update_ms": 1.5}, "wanted: a whole number"),
        ({"usual_windows_ms": "1,2"}, "wanted: 7 whole numbers"),
        ({"treasury": "0x12"}, "wanted: an account of 20 bytes"),
    ],
)
def test_what_is_no_value_is_named_before_anything_is_sent(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        changes_of(values)


def test_a_member_proposes_votes_and_sees_what_came_of_it(tmp_path: Path) -> None:
    world = FollowedWorld()
    for name in ("one", "two"):
        world.stake(key(name), Role.PROVIDER)
        world.stake(key(name), Role.VALIDATOR, 50 * POT)
    one, two = (calls(world, name, tmp_path) for name in ("one", "two"))
    assert one.propose(update_ms=120_000) == 1
    assert two.propose_version(2, "pot-lab 2.0", role="validator") == 2
    proposals = world.ledger.state.governance.proposals
    assert (proposals[1].role, proposals[2].role) == (Role.PROVIDER, Role.VALIDATOR)
    one.vote(1, True)
    two.vote(1, False)
    view = one.view()
    assert one.parameters().update_ms == world.parameters.update_ms
    first, second = view.proposals
    assert first.for_grains == first.against_grains == 250 * POT
    half = replace(first, total_grains=500 * POT)
    assert proposal_text(half) == ("    1  voting      update_ms = 120000 (2 min 0 s)  (50.0 % for, 50.0 % against)")
    assert proposal_text(second) == (
        "    2  voting      version 2 of the rules (pot-lab 2.0)  (0.0 % for, 0.0 % against)"
    )
    with pytest.raises(BadArgument, match="registered in no role"):
        calls(world, "stranger", tmp_path).propose(update_ms=120_000)
    with pytest.raises(BadArgument, match="no such role"):
        one.propose(update_ms=120_000, role="king")


def test_values_say_what_they_mean() -> None:
    assert value_text("update_ms", 90_000) == "90000 (1 min 30 s)"
    assert value_text("min_fee_grains", POT // 2) == f"{POT // 2} (0.5 POT)"
    assert value_text("winner_bp", 8_050) == "8050 (80.5 %)"
    assert value_text("seats_per_order", 7) == "7"
    assert value_text("treasury", bytes(20)) == "0x" + "00" * 20
    assert change("update_ms", 1).name == "update_ms"
