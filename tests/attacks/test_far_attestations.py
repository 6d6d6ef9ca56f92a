"""One aggregator attests chain events that are still far away, without end, to fill the memory of all."""

from __future__ import annotations

import pytest

from pot_lab.protocol import chain_events
from pot_lab.protocol.chain_events import MAX_AHEAD
from pot_lab.protocol.records import ChainEvent
from pot_lab.protocol.transactions import Attest
from tests.protocol.world import World, key

ROUNDS = 40
EVENT = ChainEvent(
    kind="staked",
    block=1,
    log_index=0,
    account=key("nobody").address,
    role=0,
    amount_grains=1,
    subject=b"",
    detail=(1,),
)


def kept(world: World) -> int:
    """How many attested events the ledger keeps of an aggregator that goes ever further ahead."""
    for turn in range(ROUNDS):
        world.submit(world.aggregators[0], Attest(world.ledger.state.next_chain_event + 1 + turn * 1_000, (EVENT,)))
    return len(world.ledger.state.attestations)


def test_what_is_too_far_ahead_is_refused(world: World) -> None:
    first = world.ledger.state.next_chain_event + MAX_AHEAD
    assert world.submit(world.aggregators[0], Attest(first, (EVENT,))).code == "TooEarly"
    assert kept(world) <= 1 + MAX_AHEAD // 1_000


def test_without_the_bound_all_of_it_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_events, "MAX_AHEAD", 1 << 40)
    assert kept(world) == ROUNDS
