"""Help for tests on local testnets."""

from __future__ import annotations

from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Register
from pot_lab.testnet.testnet import Testnet


def register_miners(testnet: Testnet, validators: int = 3) -> None:
    """Register the last provider and the first validators, so that orders start though nobody works."""
    config = NetworkConfig.load(testnet.network_file)
    provider = max(name for name in testnet.accounts() if name.startswith("provider-"))
    accounts = [(provider, Role.PROVIDER), *((f"validator-{n}", Role.VALIDATOR) for n in range(validators))]
    for name, role in accounts:
        with LedgerClient(config, testnet.identity(name)) as client:
            client.submit(Register(int(role)), timeout_s=240)
