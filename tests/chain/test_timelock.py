"""The contracts belong to a timelock: nothing of theirs changes at once, and everybody can see what will."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pot_lab.chain.account import ChainAccount
from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.deploy import ContractSetup, deploy
from pot_lab.chain.inspection import ContractInspector, TimelockState
from pot_lab.chain.rpc import JsonRpc
from pot_lab.crypto.identity import Identity
from tests.chain.test_settlement_attacks import refused
from tests.chain.world import DAY_S, POT, identity

FOUNDER, STRANGER = identity("founder"), identity("relayer")
DELAY_S = 2 * DAY_S


@dataclass
class Owned:
    """A network whose contracts belong to a timelock."""

    url: str
    rpc: JsonRpc
    contracts: Contracts
    timelock: bytes

    def send(self, who: Identity, contract: str, at: bytes, function: str, *arguments: object) -> None:
        ChainAccount(self.rpc, self.contracts.chain_id, who).send(contract, at, function, *arguments)

    def ask(self, who: Identity, at: bytes, data: bytes, *, delay_s: int | None = None) -> None:
        """Schedule a call, or execute one."""
        name, last = ("execute", ()) if delay_s is None else ("schedule", (delay_s,))
        self.send(who, "Timelock", self.timelock, name, at, 0, data, bytes(32), bytes(32), *last)

    def state(self) -> TimelockState:
        with ContractInspector(self.url, self.contracts) as inspector:
            assert inspector.verify() == []
            found = inspector.state().timelock
            assert found is not None
            return found


@pytest.fixture
def owned(chain_url: str) -> Iterator[Owned]:
    rpc = JsonRpc(chain_url)
    snapshot = rpc.call("evm_snapshot")
    signers = [identity(f"aggregator {i}").address for i in range(3)]
    setup = ContractSetup(aggregators=signers, stakes=[(each, 3, 1_000 * POT) for each in signers], timelock_s=DELAY_S)
    contracts = deploy(chain_url, FOUNDER, setup)
    with ContractInspector(chain_url, contracts) as inspector:
        (owner,) = set(inspector.state().owners.values())
    yield Owned(chain_url, rpc, contracts, owner)
    rpc.call("evm_revert", snapshot)
    rpc.close()


def test_it_waits_is_nobodys_but_its_own_and_anybody_may_execute(owned: Owned) -> None:
    assert owned.state() == TimelockState(
        address=owned.timelock,
        delay_s=DELAY_S,
        proposers=(FOUNDER.address,),
        executors=(bytes(20),),
        admins=(owned.timelock,),
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


def test_an_act_of_the_owner_takes_force_after_the_delay_and_not_before(owned: Owned) -> None:
    at = owned.contracts
    data = interface("OrderEscrow").functions["setMinReward"].call_data((5 * POT,))
    with refused("AccessControlUnauthorizedAccount", STRANGER.address):
        owned.ask(STRANGER, at.escrow, data, delay_s=DELAY_S)
    with refused("TimelockInsufficientDelay", DELAY_S - 1, DELAY_S):
        owned.ask(FOUNDER, at.escrow, data, delay_s=DELAY_S - 1)
    owned.ask(FOUNDER, at.escrow, data, delay_s=DELAY_S)
    with refused("TimelockUnexpectedOperationState"):
        owned.ask(STRANGER, at.escrow, data)
    owned.rpc.call("evm_increaseTime", DELAY_S)
    owned.rpc.call("evm_mine")
    owned.ask(STRANGER, at.escrow, data)
    read = ChainAccount(owned.rpc, at.chain_id, None).read
    assert read("OrderEscrow", at.escrow, "minReward") == (5 * POT,)


def test_another_admin_of_the_timelock_is_named(owned: Owned) -> None:
    data = interface("Timelock").functions["grantRole"].call_data((bytes(32), STRANGER.address))
    owned.ask(FOUNDER, owned.timelock, data, delay_s=DELAY_S)
    owned.rpc.call("evm_increaseTime", DELAY_S)
    owned.rpc.call("evm_mine")
    owned.ask(STRANGER, owned.timelock, data)
    with ContractInspector(owned.url, owned.contracts) as inspector:
        (said,) = inspector.verify()
    assert "another admin" in said and STRANGER.address.hex() in said.lower()
    assert owned.contracts.settlement != owned.timelock


def test_a_role_that_was_given_up_is_not_shown(owned: Owned) -> None:
    role = ChainAccount(owned.rpc, owned.contracts.chain_id, None).read("Timelock", owned.timelock, "PROPOSER_ROLE")[0]
    owned.send(FOUNDER, "Timelock", owned.timelock, "renounceRole", role, FOUNDER.address)
    assert owned.state().proposers == ()
