"""A network's beginning on the chain: deploy and wire the contracts, hand out tokens, bond stakes, seat the first
signers.

Used once per network by its founder; a testnet does it at every start. The founder owns the contracts while they are
wired, and hands them to a timelock in the end where one is asked for. Stakes are bonded on behalf of their nodes, so no
other key than the founder's is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pot_lab.agreement.quorum import quorum
from pot_lab.chain.account import ChainAccount
from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.errors import ChainError, ChainRefused
from pot_lab.chain.rpc import JsonRpc, read_quantity
from pot_lab.crypto.identity import Identity, format_address

SUPPLY_GRAINS: Final = 10**18
AGGREGATOR: Final = 3
_GRANTS_AT_ONCE: Final = 100
_EVERYBODY: Final = bytes(20)
"""As an executor of a timelock."""
_NOBODY: Final = bytes(20)
"""As an admin of a timelock."""


class BadGenesis(ChainError):
    """A genesis contradicts itself: more tokens than exist, or a signer without stake.

    What to do: change what the message names: the amounts, or the signers.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractSetup:
    """What a network begins with. Grains and seconds; accounts are 20-byte addresses.

    Attributes:
        balances: grains to hand out; the founder keeps the rest of `supply_grains`.
        stakes: (node, role, grains) to bond; several may name one node.
        aggregators: the first signer set; each needs a stake in role 3.
        threshold: signatures that settle an epoch; None is the ledger's quorum q = ceil((n+f+1)/2), f = floor((n-1)/3).
        min_stakes: least stake by role (provider, validator, verifier, aggregator).
        unbonding_s: from a request to the withdrawal of stake.
        refund_grace_s: how long after its last date an unsealed order cannot be refunded.
        stall_grace_s: the same while the network settles nothing; at least `refund_grace_s`.
        min_reward_grains: least reward of an order.
        min_cycle_s, claim_delay_s: least time between settlements, and from one to its first claim, in which the
            guardian may veto it.
        guardian, treasury: None is the founder.
        timelock_s: how long each act of the owner has to wait in OpenZeppelin's timelock, where a quorum of the signers
            proposes by the governor and anybody executes; None leaves the founder the owner.
    """

    aggregators: Sequence[bytes]
    balances: Mapping[bytes, int] = field(default_factory=dict)
    stakes: Sequence[tuple[bytes, int, int]] = ()
    supply_grains: int = SUPPLY_GRAINS
    threshold: int | None = None
    min_stakes: tuple[int, int, int, int] = (0, 0, 0, 0)
    unbonding_s: int = 7 * 86_400
    refund_grace_s: int = 86_400
    stall_grace_s: int = 30 * 86_400
    min_reward_grains: int = 1
    min_cycle_s: int = 60
    claim_delay_s: int = 0
    guardian: bytes | None = None
    treasury: bytes | None = None
    timelock_s: int | None = None


def deploy(rpc_url: str, founder: Identity, genesis: ContractSetup, *, timeout_s: float = 30.0) -> Contracts:
    """Deploy a network and return where its contracts are. The deployer pays in the chain's own coin.

    Raises:
        BadGenesis: `genesis` contradicts itself; nothing was sent.
        ChainReverted, ChainUnreachable, ChainRefused: the chain did not accept it. What was deployed by then is left
            as it is.
    """
    _check(genesis)
    rpc = JsonRpc(rpc_url, timeout_s=timeout_s)
    try:
        chain_id = read_quantity(rpc.call("eth_chainId"))
        account = ChainAccount(rpc, chain_id, founder)
        owner = founder.address
        first_block = read_quantity(rpc.call("eth_blockNumber"))

        def create(name: str, *arguments: Any) -> bytes:
            created = account.create(name, arguments).created
            if created is None:
                raise ChainRefused("the chain's node names no address for a contract that was created", seen=name)
            return created

        token = create("PoTToken", owner, genesis.supply_grains)
        treasury = genesis.treasury or owner
        registry = create("StakeRegistry", token, owner, treasury, genesis.unbonding_s, genesis.min_stakes)
        graces = genesis.refund_grace_s, genesis.stall_grace_s
        escrow = create("OrderEscrow", token, owner, *graces, genesis.min_reward_grains)
        settlement = create(
            "RewardSettlement",
            token,
            escrow,
            registry,
            owner,
            genesis.guardian or owner,
            genesis.min_cycle_s,
            genesis.claim_delay_s,
        )
        account.send("StakeRegistry", registry, "setSettlement", settlement)
        account.send("OrderEscrow", escrow, "setSettlement", settlement)
        if genesis.stakes:
            account.send("PoTToken", token, "approve", registry, sum(grains for _, _, grains in genesis.stakes))
        for start in range(0, len(genesis.stakes), _GRANTS_AT_ONCE):
            account.send("StakeRegistry", registry, "stakeFor", list(genesis.stakes[start : start + _GRANTS_AT_ONCE]))
        stakers = sorted(genesis.aggregators)
        threshold = quorum(len(stakers)) if genesis.threshold is None else genesis.threshold
        account.send("RewardSettlement", settlement, "rotate", stakers, threshold, 0, b"")
        for holder, grains in genesis.balances.items():
            account.send("PoTToken", token, "transfer", holder, grains)
        if genesis.timelock_s is not None:
            timelock = create("Timelock", 0, [owner], [_EVERYBODY], _NOBODY)
            governor = create("Governor", timelock, settlement, owner)
            _hand_over(
                account,
                timelock,
                governor,
                {"StakeRegistry": registry, "OrderEscrow": escrow, "RewardSettlement": settlement},
                genesis.timelock_s,
            )
        return Contracts(
            chain_id=chain_id,
            token=token,
            registry=registry,
            escrow=escrow,
            settlement=settlement,
            first_block=first_block,
        )
    finally:
        rpc.close()


def _hand_over(
    account: ChainAccount, timelock: bytes, governor: bytes, owned: Mapping[str, bytes], delay_s: int
) -> None:
    """Make a timelock that does not wait yet the owner of some contracts; have it take proposals from the governor
    alone, and wait from then on.
    """
    for name, at in owned.items():
        account.send(name, at, "transferOwnership", timelock)
    accept = [interface(name).functions["acceptOwnership"].call_data(()) for name in owned]
    lock = interface("Timelock").functions
    roles = [account.read("Timelock", timelock, name)[0] for name in ("PROPOSER_ROLE", "CANCELLER_ROLE")]
    founder = bytes(20) if account.signer is None else account.signer.address
    own = [lock["grantRole"].call_data((role, governor)) for role in roles]
    own += [lock["revokeRole"].call_data((role, founder)) for role in roles]
    own.append(lock["updateDelay"].call_data((delay_s,)))
    targets = [*owned.values(), *[timelock] * len(own)]
    batch = targets, [0] * len(targets), [*accept, *own], bytes(32), bytes(32)
    account.send("Timelock", timelock, "scheduleBatch", *batch, 0)
    account.send("Timelock", timelock, "executeBatch", *batch)


def _check(genesis: ContractSetup) -> None:
    bonded = sum(grains for _, _, grains in genesis.stakes)
    spent = bonded + sum(genesis.balances.values())
    if spent > genesis.supply_grains:
        raise BadGenesis("a genesis hands out more than exists", seen=spent, wanted=f"at most {genesis.supply_grains}")
    staked: dict[bytes, int] = {}
    for node, role, grains in genesis.stakes:
        if role == AGGREGATOR:
            staked[node] = staked.get(node, 0) + grains
    if not genesis.aggregators or len(set(genesis.aggregators)) != len(genesis.aggregators):
        raise BadGenesis("a genesis needs aggregators, each once", seen=len(genesis.aggregators))
    for aggregator in genesis.aggregators:
        if staked.get(aggregator, 0) < max(1, genesis.min_stakes[AGGREGATOR]):
            raise BadGenesis(
                f"aggregator {format_address(aggregator)} is not staked enough to sign",
                seen=staked.get(aggregator, 0),
                wanted=f"at least {max(1, genesis.min_stakes[AGGREGATOR])}",
            )
