"""The contracts belong to a timelock: nothing of theirs changes at once, and everybody can see what will."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pot_lab.chain.contract import interface
from pot_lab.chain.inspection import ContractInspector, TimelockState
from tests.chain.owned import DELAY_S, FOUNDER, STRANGER, Owned, owned_network
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import POT


@pytest.fixture
def owned(chain_url: str) -> Iterator[Owned]:
    with owned_network(chain_url) as made:
        yield made


def test_it_waits_is_nobodys_but_its_own_and_anybody_may_execute(owned: Owned) -> None:
    assert owned.state() == TimelockState(
        address=owned.timelock,
        delay_s=DELAY_S,
        proposers=(owned.governor,),
        executors=(bytes(20),),
        admins=(owned.timelock,),
        governor=owned.governor,
    )


def test_the_founder_owns_nothing_any_more(owned: Owned) -> None:
    at = owned.contracts
    for contract, where, function, arguments in (
        ("RewardSettlement", at.settlement, "setCycle", (1, 0)),
        ("StakeRegistry", at.registry, "setSettlement", (FOUNDER.address,)),
        ("OrderEscrow", at.escrow, "setSettlement", (FOUNDER.address,)),
        ("RewardSettlement", at.settlement, "transferOwnership", (FOUNDER.address,)),
    ):
        with refused("OwnableUnauthorizedAccount", FOUNDER.address):
            owned.send(FOUNDER, contract, where, function, *arguments)
    with refused("BadSignatures"):  # seats signers by their own signatures only
        owned.send(FOUNDER, "RewardSettlement", at.settlement, "rotate", [FOUNDER.address], 1, 0, b"")
    data = interface("OrderEscrow").functions["setMinReward"].call_data((5 * POT,))
    for who in (FOUNDER, STRANGER, owned.signers[0]):
        with refused("AccessControlUnauthorizedAccount", who.address):
            schedule = at.escrow, 0, data, bytes(32), bytes(32), DELAY_S
            owned.send(who, "Timelock", owned.timelock, "schedule", *schedule)


def test_an_act_of_the_owner_takes_force_after_the_delay_and_not_before(owned: Owned) -> None:
    at = owned.contracts
    proposal = owned.propose(("escrow", "setMinReward", [5 * POT]))
    with refused("TimelockUnexpectedOperationState"):
        owned.governance().execute(proposal)
    owned.wait(DELAY_S - 60)
    with refused("TimelockUnexpectedOperationState"):
        owned.governance().execute(proposal)
    owned.wait(60)
    owned.governance().execute(proposal)
    assert owned.read("OrderEscrow", at.escrow, "minReward") == (5 * POT,)
    with refused("TimelockUnexpectedOperationState"):
        owned.governance().execute(proposal)


def test_another_admin_or_proposer_of_the_timelock_is_named(owned: Owned) -> None:
    roles = [owned.read("Timelock", owned.timelock, name)[0] for name in ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE")]
    owned.carry_out(*(("timelock", "grantRole", [role, STRANGER.address]) for role in roles))
    with ContractInspector(owned.url, owned.contracts) as inspector:
        admin, proposer = inspector.verify()
    assert "another admin" in admin and STRANGER.address.hex() in admin.lower()
    assert "not only a quorum proposes" in proposer and STRANGER.address.hex() in proposer.lower()


def test_a_role_that_was_given_up_is_not_shown(owned: Owned) -> None:
    role = owned.read("Timelock", owned.timelock, "PROPOSER_ROLE")[0]
    owned.carry_out(("timelock", "revokeRole", [role, owned.governor]))
    state = owned.state()
    assert (state.proposers, state.governor) == ((), None)
