"""From the aggregators' cards to a network: contracts on the chain, stakes, and a `network.toml` for all to sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.network.chain_access import chain_config_of
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.founding.card import Card, entries_of_cards
from pot_lab.network.genesis import parameters_of, unnamed_genesis
from pot_lab.protocol.owner_acts import least_cycle_s
from pot_lab.protocol.parameters import Parameters, Role

if TYPE_CHECKING:
    from pot_lab.chain.contract import Contracts
    from pot_lab.chain.deploy import ContractSetup

REFUND_GRACE_S = 9 * 86_400
"""How long after its last date an order's escrow can only be sealed, if the network then settles an epoch without it.
Windows that the guardian's pause of at most 7 days made longer may still end within it.
"""
STALL_GRACE_S = 30 * 86_400
"""The same while the network settles nothing at all: then clients get their escrows without it."""
STAKE_TIMES = 2
"""How many times the least stake each founding aggregator gets, so that a small slash does not unseat it."""


LEAST_WINDOWS_MS: Mapping[str, int] = {"min_window_ms": 10_000, "min_challenge_ms": 30_000}
"""What a founded network asks of every order, unless its founder says otherwise.

A primary may shift the agreed time by 2.5 s, and files have to come into custody within a window: in one of less than
four times that, others lose bonds and locks for being slow. The ledger's own defaults are for networks on one machine.
"""


@dataclass(frozen=True, kw_only=True)
class NetworkTerms:
    """What a founder decides, beside the cards.

    Attributes:
        name: what people call the network.
        rpc_url: the chain's node, or nodes.
        store_url: where blobs are put by default; "" for none.
        private_links: see `NetworkConfig`.
        confirmations: how many blocks must be on top of an event's block.
        parameters: ledger parameters that differ from the defaults, as in `network.toml`.
        grants: grains that accounts (20 bytes) get from the supply; the founder keeps the rest.
        treasury: the account that gets slashed stake and rounding; None is the founder.
    """

    name: str
    rpc_url: str
    store_url: str = ""
    private_links: bool | None = None
    confirmations: int = 12
    parameters: Mapping[str, Any] = field(default_factory=dict)
    grants: Mapping[bytes, int] = field(default_factory=dict)
    treasury: bytes | None = None


def contract_setup(entries: Sequence[AggregatorEntry], parameters: Parameters, terms: NetworkTerms) -> ContractSetup:
    """What the contracts begin with: the aggregators staked and seated as the first signers, the grants handed out."""
    from pot_lab.chain.deploy import ContractSetup

    least = parameters.min_stake_grains[Role.AGGREGATOR]
    return ContractSetup(
        aggregators=[entry.address for entry in entries],
        balances=terms.grants,
        stakes=[(entry.address, int(Role.AGGREGATOR), STAKE_TIMES * least) for entry in entries],
        min_stakes=parameters.min_stake_grains,
        unbonding_s=parameters.unbonding_ms // 1_000,
        refund_grace_s=REFUND_GRACE_S,
        stall_grace_s=STALL_GRACE_S,
        min_reward_grains=parameters.min_reward_grains,
        min_cycle_s=least_cycle_s(parameters.update_ms),
        treasury=terms.treasury,
        timelock_s=parameters.timelock_ms // 1_000,
    )


def found(
    cards: Sequence[Card], terms: NetworkTerms, founder: Identity, *, contracts: Contracts | None = None
) -> NetworkConfig:
    """Deploy the contracts, unless they are named, and write down the network that the cards make.

    Args:
        cards: of all founding aggregators.
        founder: deploys the contracts, pays in the chain's own coin, and hands them to a timelock.
        contracts: contracts that were deployed before, for the same aggregators.
    Returns: a configuration that nobody has signed yet.
    Raises:
        BadCard: two cards do not go together.
        BadParameter, BadConfig: a term is wrong; nothing was sent.
        BadGenesis, ChainReverted, ChainUnreachable, ChainRefused: the chain did not take it.
    """
    from pot_lab.chain.deploy import deploy

    entries = entries_of_cards(cards)
    treasury = founder.address if terms.treasury is None else terms.treasury
    parameters = {"treasury": format_address(treasury), **LEAST_WINDOWS_MS, **terms.parameters}
    placed = contracts if contracts is not None else _nowhere()
    _config(entries, terms, parameters, placed).check()
    if contracts is None:
        placed = deploy(terms.rpc_url, founder, contract_setup(entries, parameters_of(parameters), terms))
    return _config(entries, terms, parameters, placed)


def _config(
    entries: tuple[AggregatorEntry, ...], terms: NetworkTerms, parameters: dict[str, Any], contracts: Contracts
) -> NetworkConfig:
    unnamed = NetworkConfig(
        network_id=bytes(32),
        name=terms.name,
        aggregators=entries,
        chain=chain_config_of(terms.rpc_url, contracts, terms.confirmations),
        store_url=terms.store_url,
        private_links=terms.private_links,
        parameters=parameters,
    )
    return NetworkConfig.from_table({**unnamed.to_table(), "network_id": unnamed_genesis(unnamed).network_id.hex()})


def _nowhere() -> Contracts:
    """Stands for contracts that are still to be deployed, while the rest is checked."""
    from pot_lab.chain.contract import Contracts

    nowhere = bytes(20)
    return Contracts(chain_id=1, token=nowhere, registry=nowhere, escrow=nowhere, settlement=nowhere)
