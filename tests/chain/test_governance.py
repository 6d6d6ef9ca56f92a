"""A quorum of the signers decides what is proposed to the contracts' owner, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from pot_lab.chain.errors import BadOwnerAct, NotConfirmed, NotEnoughSignatures
from pot_lab.chain.governance import OwnerAct, OwnerActs
from pot_lab.chain.proposal import ProposedTransaction
from pot_lab.chain.wallet import pack_signatures
from pot_lab.protocol.settlement import rotation_digest
from tests.chain.owned import DELAY_S, FOUNDER, STRANGER, Owned, owned_network
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import DAY_S, POT, World

CHANGE = ("escrow", "setMinReward", [5 * POT])


@pytest.fixture
def owned(chain_url: str) -> Iterator[Owned]:
    with owned_network(chain_url) as made:
        yield made


def packed(owned: Owned, proposal: OwnerAct, count: int) -> tuple[int, bytes]:
    """Bitmap and signatures of the first signers, however few."""
    digest = proposal.message.digest
    members = owned.signers[:count]
    return pack_signatures(digest, [m.address for m in members], count, {m.address: m.sign(digest) for m in members})


def raw(owned: Owned, proposal: OwnerAct, bitmap: int, signatures: bytes) -> None:
    targets, _, calls, _, _ = proposal.batch
    at = (proposal.number, targets, calls, proposal.reason_hash)
    owned.send(STRANGER, "Governor", owned.governor, "propose", *at, bitmap, signatures)


def test_a_quorum_changes_a_rule_after_the_delay(owned: Owned) -> None:
    governance = owned.governance()
    proposal = governance.draft([CHANGE, ("settlement", "setCycle", [120, 60])], "rewards were too small")
    assert governance.waits_until_s(proposal) is None
    governance.propose(proposal, owned.signed(proposal, 2))
    due_s = governance.waits_until_s(proposal)
    assert due_s is not None and due_s > DELAY_S
    owned.wait()
    governance.execute(proposal)
    assert governance.waits_until_s(proposal) == 0
    assert owned.read("OrderEscrow", owned.contracts.escrow, "minReward") == (5 * POT,)
    assert owned.read("RewardSettlement", owned.contracts.settlement, "claimDelay") == (60,)


def test_without_a_quorum_nothing_is_proposed(owned: Owned) -> None:
    governance = owned.governance()
    proposal = governance.draft([CHANGE], "mine")
    with pytest.raises(NotEnoughSignatures, match="seen: 1, wanted: 2"):
        governance.propose(proposal, owned.signed(proposal, 1))
    with refused("BadSignatures", 1, 2):
        raw(owned, proposal, *packed(owned, proposal, 1))
    with refused("BadSignatures"):
        raw(owned, proposal, 0, b"")
    for other in (
        replace(proposal, calls=((owned.contracts.escrow, b"\0" * 4),)),
        replace(proposal, calls=((owned.contracts.registry, proposal.calls[0][1]),)),
        replace(proposal, reason="another"),
        replace(proposal, chain_id=1),
        replace(proposal, governor=owned.contracts.settlement),
    ):
        with refused("BadSignatures", 0, 2):
            raw(owned, proposal, *packed(owned, other, 2))
    raw(owned, proposal, *packed(owned, proposal, 2))


def test_what_was_signed_is_proposed_once_and_in_turn(owned: Owned) -> None:
    """Also: a proposal that was proposed once cannot come back after it was dropped."""
    proposal = owned.propose(CHANGE)
    with refused("WrongNumber", 1, 2):
        raw(owned, proposal, *packed(owned, proposal, 2))
    ahead = replace(proposal, number=3)
    with refused("WrongNumber", 3, 2):
        raw(owned, ahead, *packed(owned, ahead, 2))
    governance = owned.governance()
    message = governance.cancellation(proposal)
    governance.cancel(proposal, {each.address: sign(each, message) for each in owned.signers})
    assert governance.waits_until_s(proposal) is None
    with refused("WrongNumber", 1, 2):
        raw(owned, proposal, *packed(owned, proposal, 2))
    with pytest.raises(BadOwnerAct, match="another number"):
        governance.propose(proposal, owned.signed(governance.draft([CHANGE], "again")))


def sign(who: object, message: object) -> bytes:
    signature = who.sign(message.digest)  # type: ignore[attr-defined]
    return bytes(signature[:64]) + bytes([signature[64] + 27])


def test_only_a_quorum_cancels(owned: Owned) -> None:
    proposal = owned.propose(CHANGE)
    governance = owned.governance()
    message = governance.cancellation(proposal)
    one = owned.signers[0]
    with pytest.raises(NotEnoughSignatures):
        governance.cancel(proposal, {one.address: sign(one, message)})
    with refused("BadSignatures"):
        owned.send(one, "Governor", owned.governor, "cancel", proposal.id, 0, b"")
    with refused("AccessControlUnauthorizedAccount", one.address):
        owned.send(one, "Timelock", owned.timelock, "cancel", proposal.id)
    with pytest.raises(NotEnoughSignatures):  # signatures of the proposal are none of its cancellation
        governance.cancel(proposal, owned.signed(governance.draft([CHANGE], "other")))
    assert governance.waits_until_s(proposal)


def test_earlier_signers_decide_nothing(owned: Owned) -> None:
    governance = owned.governance()
    proposal = governance.draft([CHANGE], "by those of yesterday")
    ready = packed(owned, proposal, 2)
    stakers = [each.address for each in owned.signers]
    digest = rotation_digest(owned.contracts.chain_id, owned.contracts.settlement, 2, 2, stakers)
    bitmap, signatures = pack_signatures(digest, stakers, 2, {s.address: s.sign(digest) for s in owned.signers})
    at = owned.contracts.settlement
    owned.send(STRANGER, "RewardSettlement", at, "rotate", stakers, 2, bitmap, signatures)
    with refused("BadSignatures"):  # the same keys, in a later set
        raw(owned, proposal, *ready)
    with pytest.raises(BadOwnerAct, match="another signer set"):
        governance.propose(proposal, {})


def test_the_founder_proposes_only_where_the_network_stands_still(owned: Owned) -> None:
    seat = ("settlement", "rotate", [[owned.signers[0].address], 1, 0, b""])
    proposal = owned.governance().draft([seat], "all others are lost")
    founder = owned.governance(FOUNDER)
    with refused("TooEarly"):
        founder.recover(proposal)
    owned.wait(29 * DAY_S)
    with refused("TooEarly"):
        founder.recover(proposal)
    owned.wait(DAY_S)
    with refused("NotAllowed", STRANGER.address):
        owned.governance().recover(proposal)
    founder.recover(proposal)
    owned.wait()
    owned.governance().execute(proposal)
    assert owned.read("RewardSettlement", owned.contracts.settlement, "threshold") == (1,)
    with refused("TooEarly"):  # a seating shows life
        founder.recover(owned.governance().draft([CHANGE], "and more"))


def test_calls_are_bounded_and_must_match(owned: Owned) -> None:
    governance = owned.governance()
    many = replace(governance.draft([CHANGE], "x"), calls=((owned.contracts.escrow, b""),) * 33)
    for wrong in (many, replace(many, calls=())):
        with refused("BadParameter", "calls"):
            raw(owned, wrong, *packed(owned, wrong, 2))


def test_a_proposal_goes_round_as_a_file(owned: Owned) -> None:
    governance = owned.governance()
    proposal = governance.draft([CHANGE], "rewards were too small")
    signatures = owned.signed(proposal, 2)
    content = proposal.to_file(signatures)
    assert OwnerAct.from_file(content) == (proposal, signatures)
    moved = content.replace(b'"number": 1', b'"number": 2')
    with pytest.raises(BadOwnerAct, match="not of the account"):
        OwnerAct.from_file(moved)
    for wrong in (b"", b"{}", content[:-9], b"x" * 300_000, content.replace(b"proposal 1", b"proposal 2")):
        with pytest.raises(BadOwnerAct):
            OwnerAct.from_file(wrong)
    with pytest.raises(BadOwnerAct, match="another network"):
        governance.sign(replace(proposal, governor=owned.contracts.token))


def test_it_is_said_in_words_what_is_signed_and_sent(owned: Owned) -> None:
    governance = owned.governance()
    proposal = governance.draft(
        [CHANGE, ("settlement", "setGuardian", [STRANGER.address]), ("timelock", "updateDelay", [3 * DAY_S])], "why"
    )
    words = governance.words(replace(proposal, calls=(*proposal.calls, (owned.contracts.token, b"\1\2\3\4\5"))))
    assert "set the least reward of an order to 5 POT" in words
    assert "pause settlements, and veto them" in words
    assert "wait for 3 days" in words
    assert "waits    48 h" in words and "reason   why" in words
    assert "NOT KNOWN: call 0x" in words and words.endswith("with 0x0102030405")
    asked: list[ProposedTransaction] = []
    governance.confirm_by(lambda proposed: bool(asked.append(proposed)))
    with pytest.raises(NotConfirmed):
        governance.propose(proposal, owned.signed(proposal))
    assert asked[0].action.words == "propose 3 calls that a quorum signed, as proposal 1"


def test_a_network_without_a_governor_says_so(world: World) -> None:
    with pytest.raises(BadOwnerAct, match="decided by a quorum"):
        OwnerActs(world.url, world.contracts)
