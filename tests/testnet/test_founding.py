"""Keys, accounts, balances and stakes of a new network."""

from __future__ import annotations

import inspect
import stat
from contextlib import closing
from pathlib import Path

import pytest

from pot_lab.crypto.identity import format_address
from pot_lab.network.aggregator.keys_folder import load_account, load_sealing_key
from pot_lab.network.chain_access import wallet_of
from pot_lab.network.genesis import genesis_of, parameters_of
from pot_lab.network.keys import load_curve_key
from pot_lab.protocol.parameters import GRAINS_PER_POT, BadParameter, Role
from pot_lab.testnet.founding import TESTNET_PARAMETERS, NetworkPlan, make_keys, staked_role
from pot_lab.testnet.processes import ProcessTable
from pot_lab.testnet.testnet import Testnet

SMALL = NetworkPlan(aggregators=2, providers=2, validators=1, verifiers=1, clients=1, parameters={"pool_ms": 5_000})


def test_accounts_are_named_by_kind_and_number() -> None:
    assert SMALL.account_names() == ["client", "provider-0", "provider-1", "validator-0", "verifier-0"]
    two = NetworkPlan(clients=2, providers=0, validators=0, verifiers=0)
    assert two.account_names() == ["client-0", "client-1"]


def test_only_miners_stake() -> None:
    roles = {name: staked_role(name) for name in (*SMALL.account_names(), "treasury", "deployer")}
    assert roles == {
        "client": None,
        "provider-0": Role.PROVIDER,
        "provider-1": Role.PROVIDER,
        "validator-0": Role.VALIDATOR,
        "verifier-0": Role.VERIFIER,
        "treasury": None,
        "deployer": None,
    }


def test_all_keys_are_written_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "net", SMALL)
    accounts = tmp_path / "net" / "accounts"
    assert {path.name for path in accounts.iterdir()} == {*SMALL.account_names(), "treasury", "deployer"}
    for name, identity in {**made.accounts, "treasury": made.treasury, "deployer": made.deployer}.items():
        assert load_account(accounts / name).address == identity.address
    for index, each in enumerate(made.aggregators):
        keys = tmp_path / "net" / "aggregators" / str(index) / "keys"
        assert load_account(keys).address == each.identity.address
        assert load_curve_key(keys / "curve.key").public == each.curve.public
        assert load_sealing_key(keys / "sealing.key").public == each.sealing.public
    files = [path for path in (tmp_path / "net").rglob("*") if path.is_file()]
    assert len(files) == 2 * 7 + 4 * 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_every_sender_gets_ether_once(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "net", SMALL)
    assert len(set(made.addresses)) == len(made.addresses) == 5 + 2 + 2
    assert {made.deployer.address, made.treasury.address} < set(made.addresses)


def test_parameters_are_the_testnets_the_plans_and_the_treasury(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "net", SMALL)
    assert made.parameters == {
        **TESTNET_PARAMETERS,
        "pool_ms": 5_000,
        "treasury": format_address(made.treasury.address),
    }


def test_balances_and_stakes_follow_the_roles(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "net", SMALL)
    least = parameters_of(made.parameters).min_stake_grains
    balances, stakes = made.balances(), made.stakes(parameters_of(made.parameters))
    assert {name: balances[each.address] // GRAINS_PER_POT for name, each in made.accounts.items()} == {
        "client": 10_000, "provider-0": 100, "provider-1": 100, "validator-0": 100, "verifier-0": 100
    }  # fmt: skip
    assert stakes == [
        (made.accounts["provider-0"].address, 0, 2 * least[0]),
        (made.accounts["provider-1"].address, 0, 2 * least[0]),
        (made.accounts["validator-0"].address, 1, 50 * least[1]),
        (made.accounts["verifier-0"].address, 2, 2 * least[2]),
        (made.aggregators[0].identity.address, 3, 2 * least[3]),
        (made.aggregators[1].identity.address, 3, 2 * least[3]),
    ]


def test_a_plan_is_what_up_makes_unless_told_otherwise() -> None:
    defaults = {name: each.default for name, each in inspect.signature(Testnet.up).parameters.items()}
    plan = NetworkPlan()
    kinds = ("aggregators", "providers", "validators", "verifiers", "clients", "durability")
    assert {name: getattr(plan, name) for name in kinds} == {name: defaults[name] for name in kinds}
    assert (plan.aggregators, plan.providers, plan.validators, plan.verifiers, plan.clients) == (4, 3, 4, 1, 1)


def test_the_contracts_hold_the_balances_the_stakes_and_the_aggregators(tmp_path: Path) -> None:
    plan = NetworkPlan(aggregators=4, providers=1, validators=1, verifiers=0, durability="flush")
    made = make_keys(tmp_path, plan)
    stakes = made.stakes(parameters_of(made.parameters))
    table = ProcessTable(tmp_path)
    table.begin()
    try:
        table.start_server("chain", "pot_lab.chain.embedded", ["--accounts", *map(format_address, made.addresses)])
        rpc_url = f"http://127.0.0.1:{table.await_port('chain')}"
        config = made.deploy(rpc_url, "http://127.0.0.1:9")
        with closing(wallet_of(config, made.accounts["client"])) as wallet:
            assert wallet.balance_grains() == 10_000 * GRAINS_PER_POT
            staked = {address: wallet.stake_of(address, role).bonded_grains for address, role, _ in stakes}
    finally:
        table.stop_all()
    assert staked == {address: grains for address, _, grains in stakes} and len(staked) == 6
    assert (config.name, config.store_url, config.durability) == (tmp_path.name, "http://127.0.0.1:9", "flush")
    assert config.chain is not None and (config.chain.rpc_url, config.chain.confirmations) == (rpc_url, 0)
    genesis = genesis_of(config)
    assert [member.address for member in genesis.members] == [each.identity.address for each in made.aggregators]
    assert [entry.curve_public for entry in config.aggregators] == [each.curve.public for each in made.aggregators]
    assert [entry.sealing_public for entry in config.aggregators] == [each.sealing.public for each in made.aggregators]
    assert genesis.parameters == parameters_of(made.parameters)


def test_an_unknown_parameter_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(BadParameter):
        make_keys(tmp_path / "net", NetworkPlan(aggregators=0, parameters={"pool_seconds": 5}))
