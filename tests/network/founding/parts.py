"""Cards and files of a network that four operators found."""

from __future__ import annotations

from pathlib import Path

from pot_lab.chain.contract import Contracts
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR
from pot_lab.network.aggregator.keys_folder import AggregatorKeys, make_aggregator_keys
from pot_lab.network.config import Listening, NetworkConfig
from pot_lab.network.founding.card import Card
from pot_lab.network.founding.found import NetworkTerms, found

CONTRACTS = Contracts(
    chain_id=1337, token=b"\1" * 20, registry=b"\2" * 20, escrow=b"\3" * 20, settlement=b"\4" * 20, first_block=7
)
TERMS = NetworkTerms(name="four", rpc_url="http://127.0.0.1:1", store_url="https://store.example/x")


class Operators:
    """Four operators with a folder of keys each."""

    def __init__(self, folder: Path, count: int = 4) -> None:
        self.folders = [folder / f"host-{index}" for index in range(count)]
        self.keys: list[AggregatorKeys] = [
            make_aggregator_keys(each, work_factor=TESTNET_WORK_FACTOR) for each in self.folders
        ]
        self.cards = [
            Card.make(f"operator {index}", Listening(f"host-{index}.example", 7_000, 7_001, 7_002), keys)
            for index, keys in enumerate(self.keys)
        ]

    def found(self, terms: NetworkTerms = TERMS) -> NetworkConfig:
        """The network with contracts that nobody deployed."""
        return found(self.cards, terms, Identity(b"\7" * 32), contracts=CONTRACTS)
