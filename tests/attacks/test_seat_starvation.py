"""A member that names new keys whenever it may, so that the vote which would remove it never counts."""

from __future__ import annotations

import pytest

from pot_lab.errors import Malformed
from pot_lab.network.z85 import decode_z85, encode_z85
from pot_lab.protocol import members
from pot_lab.protocol.contact import Contact
from pot_lab.protocol.transactions import Join, RotateKeys, VoteSeat
from tests.protocol.test_members import Town, application_for
from tests.protocol.world import key


def besieged() -> tuple[Town, int]:
    """Five members, whose last rotates its keys in the first batch after each change is in force, before any vote of
    the others in that batch; how often it could.
    """
    town, newcomer = Town(), key("newcomer")
    town.seat(newcomer)
    town.take_over()
    rotations = 0
    for turn in range(12):
        fresh = key(f"fresh {turn}")
        reply = town.submit(newcomer, application_for(RotateKeys, town, newcomer, fresh))
        if reply.code == "BadSeat":
            break
        assert reply.accepted
        rotations += 1
        voter = town.aggregators[turn % 4]
        code = town.submit(voter, VoteSeat(newcomer.address, False)).code
        assert code in ("", "AlreadyDone", "ChangePending")
        town.take_over()
    return town, rotations


def test_the_member_is_gone_once_a_quorum_has_voted_whatever_it_rotates() -> None:
    town, rotations = besieged()
    assert key("newcomer").address not in town.accounts and rotations == town.ledger.book.quorum + 1


def test_without_the_rule_it_stays_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "carry_out_votes", lambda book: None)
    town, rotations = besieged()
    assert key("newcomer").address in town.accounts and rotations == 12


def test_a_candidate_that_a_quorum_wants_is_seated_once_the_other_change_is_in_force() -> None:
    town, first, second = Town(), key("first"), key("second")
    for each in (first, second):
        town.fund(each)
        town.must(each, application_for(Join, town, each, each))
    for voter in town.aggregators[:3]:
        town.must(voter, VoteSeat(first.address, True))
    for voter in town.aggregators[:4]:
        town.must(voter, VoteSeat(second.address, True))  # while the first is not in force
    assert second.address not in town.accounts
    town.take_over()
    assert {first.address, second.address} <= set(town.accounts)


def test_a_removal_that_leaves_too_few_waits_for_another_member() -> None:
    town, newcomer = Town(), key("newcomer")
    town.seat(newcomer)
    victim = town.aggregators[0]
    for voter in town.aggregators[1:4]:
        town.must(voter, VoteSeat(victim.address, False))
    town.must(newcomer, VoteSeat(victim.address, False))
    assert victim.address in town.accounts
    town.take_over()
    assert victim.address not in town.accounts and len(town.accounts) == 4


@pytest.mark.parametrize("text", ["#" * 40, "0" * 35 + "%nSc1", "%nSc1" + "0" * 35, "0" * 39, "0" * 39 + "~"])
def test_a_curve_key_of_more_than_32_bytes_never_enters_the_ledger(text: str) -> None:
    """40 characters of Z85 can stand for more; aggregators and clients could not connect to it."""
    with pytest.raises(Malformed, match="CURVE"):
        Contact(host="host", peer_port=1, client_port=2, custody_port=3, curve_public=text).check()


@pytest.mark.parametrize("raw", [bytes(32), b"\xff" * 32, bytes(range(32)), b"\x80" + bytes(31)])
def test_every_key_of_32_bytes_enters(raw: bytes) -> None:
    text = encode_z85(raw)
    Contact(host="host", peer_port=1, client_port=2, custody_port=3, curve_public=text).check()
    assert decode_z85(text) == raw
