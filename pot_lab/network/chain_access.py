"""From the `[chain]` table of a network to the chain room: contracts, wallet, watcher. Loads the chain room when it is
used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pot_lab.network.config import ChainConfig, NetworkConfig
from pot_lab.network.errors import BadConfig

if TYPE_CHECKING:
    from pot_lab.chain.contract import Contracts
    from pot_lab.chain.governance import OwnerActs
    from pot_lab.chain.position import PositionFile
    from pot_lab.chain.signer import AccountSigner
    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.chain.watcher import ChainWatcher, Position
    from pot_lab.crypto.identity import Identity


def chain_of(config: NetworkConfig) -> ChainConfig:
    """The network's chain; raises BadConfig for a network without one."""
    if config.chain is None:
        raise BadConfig("network.toml names no chain", wanted="a [chain] table")
    return config.chain


def contracts_of(config: NetworkConfig) -> Contracts:
    """Where the network's contracts are; raises BadConfig for a network without a chain."""
    from pot_lab.chain.contract import Contracts

    chain = chain_of(config)
    return Contracts(
        chain_id=chain.chain_id,
        token=chain.token,
        registry=chain.registry,
        escrow=chain.escrow,
        settlement=chain.settlement,
        first_block=chain.first_block,
    )


def chain_config_of(rpc_url: str, contracts: Contracts, confirmations: int = 1) -> ChainConfig:
    """The `[chain]` table of a network with these contracts, as `contracts_of` reads it.

    Args:
        rpc_url: a node of their chain.
        contracts: where they are.
        confirmations: blocks on top of an event's before it is believed.
    """
    return ChainConfig(
        rpc_url=rpc_url,
        chain_id=contracts.chain_id,
        token=contracts.token,
        registry=contracts.registry,
        escrow=contracts.escrow,
        settlement=contracts.settlement,
        first_block=contracts.first_block,
        confirmations=confirmations,
    )


def wallet_of(config: NetworkConfig, identity: Identity | AccountSigner | None) -> ChainWallet:
    """A wallet for an account on the network's chain, by its key or by who keeps it, or for a reader (None); raises
    BadConfig for a network without one.
    """
    from pot_lab.chain.wallet import ChainWallet

    chain = chain_of(config)
    return ChainWallet(chain.rpc_url, contracts_of(config), identity, max_fee_wei=chain.max_fee_gwei * 10**9)


def owner_acts_of(config: NetworkConfig, account: Identity | AccountSigner | None) -> OwnerActs:
    """Acts of the contracts' owner, for an account or for a reader (None).

    Raises:
        BadConfig: the network has no chain.
        BadOwnerAct: no governor of this package proposes to the contracts' owner.
    """
    from pot_lab.chain.governance import OwnerActs

    chain = chain_of(config)
    return OwnerActs(chain.rpc_url, contracts_of(config), account, max_fee_wei=chain.max_fee_gwei * 10**9)


def watcher_of(config: NetworkConfig, position: Position | None = None) -> ChainWatcher:
    """A watcher of the network's contracts, from a position or from their first block; raises BadConfig for a network
    without a chain.
    """
    from pot_lab.chain.watcher import ChainWatcher

    chain = chain_of(config)
    return ChainWatcher(chain.rpc_url, contracts_of(config), chain.confirmations, chain.first_block, position=position)


def position_file_of(config: NetworkConfig, data: Path) -> PositionFile:
    """Where an aggregator's watcher keeps its position, in the aggregator's data folder; raises BadConfig for a network
    without a chain.
    """
    from pot_lab.chain.position import PositionFile

    return PositionFile(data / "chain.position", contracts_of(config))
