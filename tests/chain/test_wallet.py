"""One account on the chain: deposits, orders, refunds, and what it says when the chain does not play along."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pot_lab.chain.contract import Contracts
from pot_lab.chain.deploy import BadGenesis, ContractSetup, deploy
from pot_lab.chain.errors import ChainRefused, ChainReverted, ChainUnreachable, InsufficientBalance
from pot_lab.chain.wallet import ChainStake, ChainWallet
from pot_lab.protocol.records import order_id
from pot_lab.protocol.settlement import PayoutTree, Settlement, reward_leaf, settlement_digest
from tests.chain.world import DAY_S, POT, World, fields, identity, start_chain, stop

word = st.binary(min_size=32, max_size=32)


def test_a_network_begins_as_its_genesis_says(world: World) -> None:
    wallet = world.wallet(world.client)
    assert wallet.balance_grains() == 10**5 * POT
    assert wallet.signers() == (1, 4, tuple(signer.address for signer in world.aggregators))
    for signer in world.aggregators:
        assert wallet.stake_of(signer.address, 3) == ChainStake(1_000 * POT, 0, 0)
    everything = [world.founder, world.client, *world.aggregators]
    held = sum(wallet.balance_grains(who.address) for who in everything)
    assert held + wallet.balance_grains(world.contracts.registry) == 10**18


@pytest.mark.parametrize(
    "genesis",
    [
        ContractSetup(aggregators=[]),
        ContractSetup(aggregators=[b"\1" * 20]),
        ContractSetup(aggregators=[b"\1" * 20] * 2, stakes=[(b"\1" * 20, 3, POT)]),
        ContractSetup(aggregators=[b"\1" * 20], stakes=[(b"\1" * 20, 3, POT)], min_stakes=(0, 0, 0, 2 * POT)),
        ContractSetup(aggregators=[b"\1" * 20], stakes=[(b"\1" * 20, 3, POT)], balances={b"\2" * 20: 10**18}),
    ],
)
def test_a_genesis_that_cannot_be_is_refused_before_anything_is_sent(chain_url: str, genesis: ContractSetup) -> None:
    with pytest.raises(BadGenesis):
        deploy("http://127.0.0.1:9", identity("founder"), genesis)


def test_a_stake_goes_up_down_and_out(world: World) -> None:
    wallet = world.wallet(world.client)
    wallet.stake(0, 150 * POT)
    wallet.stake(0, 50 * POT)
    assert wallet.stake_of(world.client.address, 0).bonded_grains == 200 * POT
    with pytest.raises(ChainReverted, match=r"BelowMinimum\(0, 50000000000, 100000000000\)"):
        wallet.request_unstake(0, 150 * POT)
    with pytest.raises(ChainReverted, match=r"NotBonded\(201000000000, 200000000000\)"):
        wallet.request_unstake(0, 201 * POT)
    wallet.request_unstake(0, 100 * POT)
    unlock_at_s = wallet.stake_of(world.client.address, 0).unlock_at_s
    with pytest.raises(ChainReverted) as caught:
        wallet.withdraw(0)
    assert (caught.value.name, caught.value.arguments) == ("StillLocked", (unlock_at_s,))
    world.warp(7 * DAY_S)
    wallet.withdraw(0)
    assert wallet.stake_of(world.client.address, 0) == ChainStake(100 * POT, 0, 0)
    assert wallet.balance_grains() == 10**5 * POT - 100 * POT


def test_no_allowance_is_left_open_by_a_deposit(world: World) -> None:
    world.wallet(world.client).stake(0, 150 * POT)
    world.order()
    account = world.wallet()._account
    for spender in (world.contracts.registry, world.contracts.escrow):
        assert account.read("PoTToken", world.contracts.token, "allowance", world.client.address, spender) == (0,)


def test_a_permit_is_for_the_networks_token_whatever_the_node_says(world: World) -> None:
    wallet = world.wallet(world.client)
    honest, read = wallet._account.read, []

    def lying(contract: str, at: bytes, function: str, *arguments: object) -> tuple[object, ...]:
        read.append(function)
        if function in ("DOMAIN_SEPARATOR", "eip712Domain"):
            raise AssertionError("the node is asked for which token is meant")
        return honest(contract, at, function, *arguments)

    wallet._account.read = lying  # type: ignore[method-assign]
    wallet.stake(0, 150 * POT)
    assert wallet.stake_of(world.client.address, 0).bonded_grains == 150 * POT and "nonces" in read
    _, name, version, chain_id, token, *_ = honest("PoTToken", world.contracts.token, "eip712Domain")
    assert (name, version, chain_id, token) == ("Proof of Training", "1", 31_337, world.contracts.token)


def test_an_order_escrows_reward_fee_and_bond(world: World) -> None:
    order = world.order(reward=100 * POT, fee=7 * POT, bond=3 * POT)
    wallet = world.wallet(world.client)
    assert wallet.escrowed_grains(order.oid) == 110 * POT
    assert wallet.balance_grains() == 10**5 * POT - 110 * POT


def test_an_order_id_is_used_once_for_ever(world: World) -> None:
    order = world.order(life_s=1_000)
    wallet = world.wallet(world.client)
    again = (1 * POT, 0, 0, order.seal_by_s, order.spec, order.nonce)
    with pytest.raises(ChainReverted, match="OrderExists"):
        wallet.place_order(*again)
    world.settle(PayoutTree([]), 0, [order.oid])
    with pytest.raises(ChainReverted, match="OrderExists"):
        wallet.place_order(*again)


@pytest.mark.parametrize("life_s", [-1, 0, 367 * DAY_S])
def test_an_order_lives_into_the_future_and_not_for_ever(world: World, life_s: int) -> None:
    seal_by_s = world.now_s() + life_s
    with pytest.raises(ChainReverted) as caught:
        world.wallet(world.client).place_order(POT, 0, 0, seal_by_s, bytes(32), 1)
    assert (caught.value.name, caught.value.arguments) == ("BadParameter", ("sealBy",))


def test_more_than_the_balance_is_refused_before_anything_is_sent(world: World) -> None:
    wallet = world.wallet(world.client)
    height = world.rpc.call("eth_blockNumber")
    for attempt in (
        lambda: wallet.place_order(10**5 * POT, 1, 0, 2**40, bytes(32), 1),
        lambda: wallet.stake(0, 10**5 * POT + 1),
        lambda: wallet.transfer(world.relayer.address, 10**5 * POT + 1),
        lambda: wallet.fund(10**5 * POT + 1),
        lambda: world.wallet(world.relayer).stake(0, 1),
    ):
        with pytest.raises(InsufficientBalance, match=r"seen: .*, wanted: at least "):
            attempt()
    assert world.rpc.call("eth_blockNumber") == height


def test_the_client_gets_its_money_back_without_anybodys_help(world: World) -> None:
    order = world.order(reward=100 * POT, fee=7 * POT, bond=3 * POT, life_s=1_000)
    wallet = world.wallet(world.client)
    with pytest.raises(ChainReverted) as caught:
        wallet.refund(order.seal_by_s, order.spec, order.nonce)
    assert (caught.value.name, caught.value.arguments) == ("TooEarly", (order.seal_by_s + 30 * DAY_S,))
    assert wallet.refundable_from_s(order.seal_by_s) == order.seal_by_s + 30 * DAY_S
    world.outlive(order)
    assert wallet.refundable_from_s(order.seal_by_s) == order.seal_by_s + DAY_S
    # Whoever triggers it, the client is paid.
    world.wallet(world.relayer).refund(order.seal_by_s, order.spec, order.nonce, client=world.client.address)
    assert wallet.balance_grains() == 10**5 * POT
    with pytest.raises(ChainReverted, match="UnknownOrder"):
        wallet.refund(order.seal_by_s, order.spec, order.nonce)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=20, max_size=20), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), word)
def test_the_ledger_names_an_order_as_the_escrow_does(
    world: World, client: bytes, nonce: int, seal_by_s: int, spec: bytes
) -> None:
    assert world.read("OrderEscrow", "orderId", client, nonce, seal_by_s, spec) == (
        order_id(client, nonce, seal_by_s, spec),
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.builds(
        Settlement,
        epoch=st.integers(0, 2**64 - 1),
        round=st.integers(0, 2**64 - 1),
        signer_set_id=st.integers(0, 2**64 - 1),
        root=word,
        cumulative_total=st.integers(0, 2**128 - 1),
        orders_hash=word,
        ledger_hash=word,
    )
)
def test_the_ledger_signs_what_the_contract_checks(world: World, settlement: Settlement) -> None:
    digest = settlement_digest(world.contracts.chain_id, world.contracts.settlement, settlement)
    assert world.read("RewardSettlement", "digest", fields(settlement)) == (digest,)


@pytest.mark.parametrize("accounts", [1, 2, 3, 7, 20])
def test_trees_of_every_size_pay_in_the_contract(world: World, accounts: int) -> None:
    due = {identity(f"payee {i}").address: (i + 1) * POT for i in range(accounts)}
    order = world.order(reward=sum(due.values()))
    tree = PayoutTree([reward_leaf(who, grains) for who, grains in due.items()])
    world.settle(tree, sum(due.values()), [order.oid])
    wallet = world.wallet(world.relayer)
    first = next(iter(due))
    wallet.claim(first, due[first], tree.proof(reward_leaf(first, due[first])))
    wallet.claim_from_tree(tree, due)
    assert {who: wallet.balance_grains(who) for who in due} == due
    assert wallet.balance_grains(world.contracts.settlement) == 0


def test_a_transaction_that_fails_in_its_block_names_the_contracts_reason(world: World) -> None:
    # The rehearsal passes, then another transaction comes first: the node answers the estimate of a moment ago.
    order = world.order(life_s=100)
    world.outlive(order)
    wallet = world.wallet(world.client)
    rpc, call = wallet._account.rpc, wallet._account.rpc.call

    def overtaken(method: str, *parameters: object) -> object:
        answer = call(method, *parameters)
        if method == "eth_estimateGas":
            world.wallet(world.relayer).refund(order.seal_by_s, order.spec, order.nonce, client=world.client.address)
        return answer

    rpc.call = overtaken  # type: ignore[method-assign]
    with pytest.raises(ChainReverted) as caught:
        wallet.refund(order.seal_by_s, order.spec, order.nonce)
    assert (caught.value.name, caught.value.arguments) == ("UnknownOrder", (order.oid,))
    assert caught.value.transaction is not None and len(caught.value.transaction) == 32


def test_a_node_on_another_chain_is_refused(world: World) -> None:
    table = world.contracts.as_table() | {"chain_id": 56}
    wallet = ChainWallet(world.url, Contracts.from_table(table), world.client)
    with pytest.raises(ChainRefused, match=r"another chain \(seen: 31337, wanted: 56\)"):
        wallet.transfer(world.relayer.address, 1)


def test_an_address_without_contract_is_named(world: World) -> None:
    table = world.contracts.as_table() | {"token": "0x" + "12" * 20}
    with pytest.raises(ChainRefused, match="there is no PoTToken contract at this address"):
        ChainWallet(world.url, Contracts.from_table(table), world.client).balance_grains()


def test_a_wallet_without_key_only_reads(world: World) -> None:
    with pytest.raises(InsufficientBalance):
        world.wallet().stake(0, 1)
    with pytest.raises(ChainRefused, match="no key"):
        world.wallet().withdraw(0)


def test_a_chain_that_is_down_is_unreachable_and_comes_back(tmp_path: Path, world: World) -> None:
    process, url = start_chain(tmp_path, "--journal", str(tmp_path / "journal"))
    wallet = ChainWallet(url, world.contracts, world.client)
    with pytest.raises(ChainRefused):
        wallet.balance_grains()  # it answers, but there is no token on it
    stop(process)
    with pytest.raises(ChainUnreachable, match=r"seen: 127\.0\.0\.1:"):
        wallet.balance_grains()
    port = url.rsplit(":", 1)[1]
    process, _ = start_chain(tmp_path, "--journal", str(tmp_path / "journal"), "--port", port)
    try:
        with pytest.raises(ChainRefused):
            wallet.balance_grains()
    finally:
        stop(process)
