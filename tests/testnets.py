"""Help for tests on local testnets."""

from __future__ import annotations

from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Register
from pot_lab.testnet.testnet import Testnet


def register_validators(testnet: Testnet, count: int = 3) -> None:
    """Register the first validators, so that orders start although nobody scores."""
    config = NetworkConfig.load(testnet.network_file)
    for number in range(count):
        with LedgerClient(config, testnet.identity(f"validator-{number}")) as client:
            client.submit(Register(int(Role.VALIDATOR)))
