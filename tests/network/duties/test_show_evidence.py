"""Evidence of double signing is submitted until the ledger has convicted."""

from __future__ import annotations

from pot_lab.agreement.evidence import Equivocation
from pot_lab.crypto.canonical import decode
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.network.duties.show_evidence import ShowEvidence
from pot_lab.protocol.transactions import Accuse, open_body
from tests.network.duties.parts import opened, signer_of
from tests.protocol.test_accusations import evidence, staked
from tests.protocol.world import World, key


def proof(world: World, index: int, **step: int) -> Equivocation:
    return decode(evidence(world, world.aggregators[index], **step).evidence, Equivocation, limit_bytes=1 << 20)


def duty_of(world: World) -> ShowEvidence:
    return ShowEvidence(lambda: world.ledger, signer_of(world, world.aggregators[0]))


def test_an_accusation_is_submitted_repeated_and_dropped_once_it_convicted() -> None:
    world = staked()
    duty = duty_of(world)
    assert duty.poll(0) == []
    duty.add(proof(world, 2))
    requests = duty.poll(10_000)
    [transaction] = opened(world, requests)
    assert isinstance(open_body(transaction), Accuse)
    assert duty.poll(10_000 + REPEAT_AFTER_MS - 1) == []
    assert len(duty.poll(10_000 + REPEAT_AFTER_MS)) == 1
    assert world.ordered(*requests)[0].accepted
    assert duty.poll(10_000 + 2 * REPEAT_AFTER_MS) == []


def test_one_proof_for_each_accused_is_enough() -> None:
    world = staked()
    duty = duty_of(world)
    duty.add(proof(world, 2))
    duty.add(proof(world, 2, view=9))
    duty.add(proof(world, 3))
    assert len(duty.poll(0)) == 2


def test_a_key_that_the_ledger_does_not_know_is_not_accused() -> None:
    world = staked()
    duty = duty_of(world)
    stranger = decode(evidence(world, key("stranger")).evidence, Equivocation, limit_bytes=1 << 20)
    duty.add(stranger)
    assert duty.poll(0) == []
