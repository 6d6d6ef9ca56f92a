"""A network whose contracts belong to a timelock, to which a quorum of its signers proposes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pot_lab.agreement.quorum import quorum
from pot_lab.chain.account import ChainAccount
from pot_lab.chain.contract import Contracts
from pot_lab.chain.deploy import ContractSetup, deploy
from pot_lab.chain.governance import OwnerAct, OwnerActs
from pot_lab.chain.inspection import ContractInspector, TimelockState
from pot_lab.chain.rpc import JsonRpc
from pot_lab.crypto.identity import Identity
from tests.chain.world import DAY_S, POT, identity

FOUNDER, STRANGER = identity("founder"), identity("relayer")
DELAY_S = 2 * DAY_S
Call = tuple[str, str, Sequence[object]]


@dataclass
class Owned:
    """A chain, the contracts on it, and who signs for them."""

    url: str
    rpc: JsonRpc
    contracts: Contracts
    timelock: bytes
    governor: bytes
    signers: tuple[Identity, ...]

    def send(self, who: Identity, contract: str, at: bytes, function: str, *arguments: object) -> None:
        ChainAccount(self.rpc, self.contracts.chain_id, who).send(contract, at, function, *arguments)

    def read(self, contract: str, at: bytes, function: str, *arguments: object) -> tuple[object, ...]:
        return ChainAccount(self.rpc, self.contracts.chain_id, None).read(contract, at, function, *arguments)

    def governance(self, who: Identity = STRANGER) -> OwnerActs:
        return OwnerActs(self.url, self.contracts, who)

    def signed(self, proposal: OwnerAct, count: int | None = None) -> dict[bytes, bytes]:
        return dict(self.governance(each).sign(proposal) for each in self.signers[:count])

    def propose(self, *calls: Call, reason: str = "we agreed on it") -> OwnerAct:
        """Proposed by a quorum; it waits."""
        governance = self.governance()
        proposal = governance.draft(calls, reason)
        governance.propose(proposal, self.signed(proposal))
        return proposal

    def wait(self, seconds: int = DELAY_S) -> None:
        self.rpc.call("evm_increaseTime", seconds)
        self.rpc.call("evm_mine")

    def carry_out(self, *calls: Call) -> None:
        proposal = self.propose(*calls)
        self.wait()
        self.governance().execute(proposal)

    def state(self) -> TimelockState:
        with ContractInspector(self.url, self.contracts) as inspector:
            assert inspector.verify() == []
            found = inspector.state().timelock
            assert found is not None
            return found


@contextmanager
def owned_network(
    chain_url: str, members: Sequence[Identity] = tuple(identity(f"aggregator {i}") for i in range(3))
) -> Iterator[Owned]:
    """Contracts of these members, by default of three of whom two decide."""
    rpc = JsonRpc(chain_url, timeout_s=240)
    snapshot = rpc.call("evm_snapshot")
    signers = sorted(members, key=lambda each: each.address)
    accounts = [each.address for each in signers]
    setup = ContractSetup(
        aggregators=accounts,
        stakes=[(each, 3, 1_000 * POT) for each in accounts],
        threshold=quorum(len(accounts)) if len(accounts) > 3 else 2,
        min_cycle_s=0,
        timelock_s=DELAY_S,
    )
    contracts = deploy(chain_url, FOUNDER, setup, timeout_s=240)
    with ContractInspector(chain_url, contracts) as inspector:
        lock = inspector.state().timelock
    assert lock is not None and lock.governor is not None
    yield Owned(chain_url, rpc, contracts, lock.address, lock.governor, tuple(signers))
    rpc.call("evm_revert", snapshot)
    rpc.close()
