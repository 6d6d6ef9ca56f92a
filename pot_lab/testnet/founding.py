"""Make a new network: keys and accounts, contracts with their balances and stakes, `network.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pot_lab.crypto.identity import Identity, format_address
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR
from pot_lab.files import make_private_folder
from pot_lab.network.aggregator.keys_folder import AggregatorKeys, make_account, make_aggregator_keys
from pot_lab.network.chain_access import chain_config_of
from pot_lab.network.config import NetworkConfig
from pot_lab.network.genesis import parameters_of, unnamed_genesis
from pot_lab.network.loopback import entries_on_loopback
from pot_lab.protocol.parameters import GRAINS_PER_POT, Parameters, Role

TESTNET_PARAMETERS: Mapping[str, Any] = {
    "update_ms": 2_000,
    "pool_ms": 120_000,
    "settlement_timeout_ms": 30_000,
    "seal_margin_ms": 10_000,
    "min_window_ms": 500,
    "window_bytes_per_s": 100_000_000,
    "unbonding_ms": 86_400_000,
    "seats_per_order": 63,
    "min_validators": 3,
    "usual_windows_ms": [8_000, 60_000, 90_000, 15_000, 8_000, 5_000, 5_000],
    "voting_ms": 10_000,
    "timelock_ms": 5_000,
    "proposal_bond_grains": GRAINS_PER_POT,
}
"""Shorter waits than a real network's, since all processes are on one machine. The score window closes early, so it may
be long. So many seats that each of a few validators with equal stakes has some.
"""
CLIENT_POT, MINER_POT = 10_000, 100
"""What each account gets, besides its stake."""
VALIDATORS_STAKE, OTHERS_STAKE = 50, 2
"""How many times their role's least stake accounts have. Validators' stakes bound the reward that they score for."""
STAKED_ROLES = {"provider": Role.PROVIDER, "validator": Role.VALIDATOR, "verifier": Role.VERIFIER}


@dataclass(frozen=True, kw_only=True)
class NetworkPlan:
    """What kind of testnet to make.

    Attributes:
        aggregators, providers, validators, verifiers, clients: how many accounts of each kind.
        parameters: ledger parameters other than `TESTNET_PARAMETERS`, as in `network.toml`.
        durability: `fsync` or `flush`, see `NetworkConfig`.
    """

    aggregators: int = 4
    providers: int = 3
    validators: int = 4
    verifiers: int = 1
    clients: int = 1
    parameters: Mapping[str, Any] = field(default_factory=dict)
    durability: str = "fsync"

    def account_names(self) -> list[str]:
        """Names of the accounts besides the aggregators': `client` (or `client-0` ...), `provider-0`, ..."""
        kinds = {
            "client": self.clients,
            "provider": self.providers,
            "validator": self.validators,
            "verifier": self.verifiers,
        }
        return [
            kind if kind == "client" and count == 1 else f"{kind}-{index}"
            for kind, count in kinds.items()
            for index in range(count)
        ]


@dataclass(frozen=True, kw_only=True)
class Founding:
    """A network with keys and without a chain yet.

    Attributes:
        accounts: by name, without the treasury and the deployer.
        parameters: all that are not the ledger's defaults, as in `network.toml`.
    """

    name: str
    plan: NetworkPlan
    aggregators: list[AggregatorKeys]
    accounts: dict[str, Identity]
    treasury: Identity
    deployer: Identity
    parameters: dict[str, Any]

    @property
    def addresses(self) -> list[bytes]:
        """Every account that sends transactions to the chain and pays for them in ether."""
        nodes = [each.identity for each in self.aggregators]
        return [each.address for each in (self.deployer, self.treasury, *self.accounts.values(), *nodes)]

    def deploy(self, rpc_url: str, store_url: str) -> NetworkConfig:
        """Deploy the contracts, hand out balances and stakes; returns the network's configuration.

        Args:
            rpc_url: the chain, on which every address of `addresses` has ether.
            store_url: the blob store.
        """
        from pot_lab.chain.deploy import ContractSetup, deploy

        parameters = parameters_of(self.parameters)
        contracts = deploy(
            rpc_url,
            self.deployer,
            ContractSetup(
                aggregators=[each.identity.address for each in self.aggregators],
                balances=self.balances(),
                stakes=self.stakes(parameters),
                min_stakes=parameters.min_stake_grains,
                unbonding_s=parameters.unbonding_ms // 1000,
                refund_grace_s=60,
                stall_grace_s=60,
                min_reward_grains=parameters.min_reward_grains,
                min_cycle_s=1,
                treasury=self.treasury.address,
                timelock_s=parameters.timelock_ms // 1_000,
            ),
        )
        config = NetworkConfig(
            network_id=bytes(32),
            name=self.name,
            aggregators=entries_on_loopback(
                (each.identity.address, each.curve.public, each.sealing.public) for each in self.aggregators
            ),
            chain=chain_config_of(rpc_url, contracts, confirmations=0),
            store_url=store_url,
            parameters=self.parameters,
            durability=self.plan.durability,
        )
        return NetworkConfig.from_table({**config.to_table(), "network_id": unnamed_genesis(config).network_id.hex()})

    def balances(self) -> dict[bytes, int]:
        """What each account gets, in grains."""
        return {
            identity.address: (CLIENT_POT if name.startswith("client") else MINER_POT) * GRAINS_PER_POT
            for name, identity in self.accounts.items()
        }

    def stakes(self, parameters: Parameters) -> list[tuple[bytes, int, int]]:
        """`(account, role, grains)`: miners and aggregators stake several times the least of their role."""
        staking = [(self.accounts[name], role) for name in self.accounts if (role := staked_role(name)) is not None]
        staking += [(each.identity, Role.AGGREGATOR) for each in self.aggregators]
        times = {Role.VALIDATOR: VALIDATORS_STAKE}
        return [
            (identity.address, int(role), times.get(role, OTHERS_STAKE) * parameters.min_stake_grains[role])
            for identity, role in staking
        ]


def staked_role(account: str) -> Role | None:
    """The role for which a testnet's account is staked, by its name; None for clients and the system's accounts."""
    return STAKED_ROLES.get(account.partition("-")[0])


def make_keys(folder: Path, plan: NetworkPlan) -> Founding:
    """Make all keys of a network named as its folder, and write them there with their passwords (mode 0600).

    Raises:
        BadParameter: a ledger parameter of the plan is unknown or out of range.
    """

    def account(name: str) -> Identity:
        return make_account(folder / "accounts" / name, work_factor=TESTNET_WORK_FACTOR)

    for private in ("aggregators", "accounts"):
        make_private_folder(folder / private)
    places = [folder / "aggregators" / str(index) / "keys" for index in range(plan.aggregators)]
    aggregators = [make_aggregator_keys(place, work_factor=TESTNET_WORK_FACTOR) for place in places]
    accounts = {name: account(name) for name in plan.account_names()}
    treasury = account("treasury")
    parameters = {**TESTNET_PARAMETERS, **plan.parameters, "treasury": format_address(treasury.address)}
    parameters_of(parameters)
    return Founding(
        name=folder.name,
        plan=plan,
        aggregators=aggregators,
        accounts=accounts,
        treasury=treasury,
        deployer=account("deployer"),
        parameters=parameters,
    )
