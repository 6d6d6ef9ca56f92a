"""From the `[chain]` table of a network to the chain room: contracts, wallet, watcher. Loads the chain room when it is
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import BadConfig

if TYPE_CHECKING:
    from pot_lab.chain.contract import Contracts
    from pot_lab.chain.wallet import ChainWallet
    from pot_lab.chain.watcher import ChainWatcher
    from pot_lab.crypto.identity import Identity


def contracts_of(config: NetworkConfig) -> Contracts:
    """Where the network's contracts are. Raises BadConfig for a network without a chain."""
    from pot_lab.chain.contract import Contracts

    chain = config.chain
    if chain is None:
        raise BadConfig("network.toml names no chain", wanted="a [chain] table")
    return Contracts(
        chain_id=chain.chain_id,
        token=chain.token,
        registry=chain.registry,
        escrow=chain.escrow,
        settlement=chain.settlement,
        first_block=chain.first_block,
    )


def wallet_of(config: NetworkConfig, identity: Identity) -> ChainWallet:
    """An account on the network's chain."""
    from pot_lab.chain.wallet import ChainWallet

    contracts = contracts_of(config)
    assert config.chain is not None
    return ChainWallet(config.chain.rpc_url, contracts, identity)


def watcher_of(config: NetworkConfig) -> ChainWatcher:
    """A watcher of the network's contracts, from their first block."""
    from pot_lab.chain.watcher import ChainWatcher

    contracts = contracts_of(config)
    assert config.chain is not None
    return ChainWatcher(config.chain.rpc_url, contracts, config.chain.confirmations, contracts.first_block)
