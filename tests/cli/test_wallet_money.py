"""`pot-lab wallet` on a real chain without any aggregator: what moves money is shown, confirmed, and done."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pot_lab.cli.main import main
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import format_address, parse_address
from pot_lab.crypto.keystore import load_keystore, save_keystore
from pot_lab.network.chain_access import chain_config_of
from tests.chain.signing_program import signing_program
from tests.chain.world import DAY_S, POT, Order, World, identity, running_chain
from tests.notebook.in_process import config_of
from tests.protocol.world import World as LedgerWorld

CLIENT = identity("client").address


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        running_chain(Path(tmp_path_factory.mktemp("chain")), "--control") as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("POT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield World(url)


@pytest.fixture
def world(deployed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A network file whose aggregators do not run, a chain that does, and the client's keystore."""
    chain = chain_config_of(deployed.url, deployed.contracts)
    config = msgspec.structs.replace(config_of(LedgerWorld(), str(tmp_path)), chain=chain)
    config.save(tmp_path / "network.toml")
    save_keystore(tmp_path / "client.json", identity("client"), "pw", work_factor=2)
    monkeypatch.setenv("POT_LAB_NETWORK", str(tmp_path / "network.toml"))
    monkeypatch.setenv("POT_LAB_ACCOUNT", str(tmp_path / "client.json"))
    monkeypatch.setenv("POT_LAB_PASSWORD", "pw")
    snapshot = deployed.rpc.call("evm_snapshot")
    deployed.nonce = 0
    yield deployed
    deployed.rpc.call("evm_revert", snapshot)


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["wallet", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def held(world: World) -> int:
    return world.wallet().balance_grains(CLIENT)


def test_a_balance_is_read_without_any_aggregator(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "balance")
    assert found == {"address": format_address(CLIENT), "balance_grains": 10**5 * POT, "coin_wei": 0}
    other = format_address(world.aggregators[0].address)
    assert facts(capsys, "balance", other)["balance_grains"] == 10**4 * POT
    assert main(["wallet", "balance"]) == 0
    assert "balance  100000 POT\n" in capsys.readouterr().out
    assert main(["wallet", "balance", "0x12"]) == 1


def test_a_stake_goes_out_again_after_the_unbonding_period(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.wallet(world.client).stake(0, 150 * POT)
    found = facts(capsys, "unstake", "provider", "--yes")
    assert (found["bonded_grains"], found["unbonding_grains"]) == (0, 150 * POT)
    assert main(["wallet", "withdraw", "provider", "--yes"]) == 1
    assert "StillLocked" in capsys.readouterr().err
    world.warp(7 * DAY_S)
    assert facts(capsys, "withdraw", "provider", "--yes")["balance_grains"] == 10**5 * POT


def test_a_part_of_a_stake_is_unstaked_and_its_date_told(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.wallet(world.client).stake(0, 250 * POT)
    assert main(["wallet", "unstake", "provider", "100", "--yes"]) == 0
    told = capsys.readouterr()
    assert "stake    150 POT as provider\nleaving  100 POT, to withdraw from 20" in told.out
    assert told.err.startswith("Begin to unstake 100 POT as provider; it can be slashed until it is withdrawn.\n")


def expired(world: World) -> Order:
    order = world.order(reward=8 * POT, life_s=1_000)
    world.outlive(order)
    return order


def test_an_escrow_comes_back_by_the_orders_id_alone(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    order = expired(world)
    assert held(world) == 10**5 * POT - 8 * POT
    found = facts(capsys, "refund", "0x" + order.oid.hex(), "--yes")
    assert found == {"order": order.oid.hex(), "client": format_address(CLIENT)} and held(world) == 10**5 * POT


@pytest.mark.parametrize(
    ("order", "told"), [("12", "not an order id"), ("zz" * 32, "not an order id"), ("ab" * 32, "no such order")]
)
def test_what_is_no_order_is_refused(world: World, capsys: pytest.CaptureFixture[str], order: str, told: str) -> None:
    assert main(["wallet", "refund", order, "--yes"]) == 1
    assert told in capsys.readouterr().err


def test_rewards_are_funded(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "fund", "2.5", "--yes") == {"balance_grains": 10**5 * POT - 2_500_000_000}
    assert world.wallet().balance_grains(world.contracts.settlement) == 2_500_000_000


def test_payouts_go_where_the_account_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    own, safe = format_address(CLIENT), format_address(identity("cold account").address)
    assert facts(capsys, "payout-address") == {"payout_address": own}
    assert facts(capsys, "payout-address", safe, "--yes") == {"payout_address": safe}
    assert world.wallet().payout_address(CLIENT) == parse_address(safe)
    assert facts(capsys, "payout-address", "--own", "--yes") == {"payout_address": own}
    assert main(["wallet", "payout-address", safe, "--own"]) == 2
    assert main(["wallet", "payout-address", "0x12", "--yes"]) == 1


SENDING = [
    ["unstake", "provider"],
    ["withdraw", "provider"],
    ["fund", "1"],
    ["refund", "ORDER"],
    ["payout-address", "0x" + "07" * 20],
]


def ready(world: World, command: list[str]) -> list[str]:
    """What the command needs, so that the chain would accept it."""
    wallet = world.wallet(world.client)
    wallet.stake(0, 150 * POT)
    if command[0] == "withdraw":
        wallet.request_unstake(0, 150 * POT)
        world.warp(7 * DAY_S)
    return [expired(world).oid.hex() if word == "ORDER" else word for word in command]


def sent(world: World) -> int:
    return int(world.rpc.call("eth_getTransactionCount", format_address(CLIENT), "latest"), 16)


@pytest.mark.parametrize("command", SENDING)
def test_a_dry_run_says_what_and_how_much_and_sends_nothing(
    world: World, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    command = ready(world, command)
    before = sent(world)
    found = facts(capsys, *command, "--dry-run")["dry_run"]
    assert found["account"] == format_address(CLIENT) and found["gas"] > 21_000 and found["fee_wei"] == 0
    assert main(["wallet", *command, "--dry-run"]) == 0
    told = capsys.readouterr()
    assert told.out == "" and "gas      at most" in told.err and "account  0x" in told.err
    assert sent(world) == before


@pytest.mark.parametrize("command", SENDING)
def test_without_a_terminal_nothing_is_sent_unless_it_is_said(
    world: World, capsys: pytest.CaptureFixture[str], command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ready(world, command)
    before = sent(world)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert main(["wallet", *command]) == 1
    assert "NotConfirmed" in (told := capsys.readouterr().err) and "--yes" in told
    assert sent(world) == before


@pytest.mark.parametrize(("answer", "sends"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_on_a_terminal_it_asks(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: str, sends: bool
) -> None:
    world.wallet(world.client).stake(0, 150 * POT)
    before = sent(world)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: answer.strip())
    assert main(["wallet", "unstake", "provider"]) == (0 if sends else 1)
    assert sent(world) == before + sends


def test_a_dry_run_of_what_the_contract_refuses_names_its_reason(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    order = world.order(reward=8 * POT)
    assert main(["wallet", "refund", order.oid.hex(), "--dry-run"]) == 1
    assert "TooEarly" in capsys.readouterr().err


def test_an_account_is_imported_by_its_secret_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POT_LAB_PASSWORD", "pw")
    key = keccak256(b"imported")
    for number, text in enumerate((key.hex(), "0x" + key.hex().upper(), f"  {key.hex()}\n")):
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
        monkeypatch.setattr(sys.stdin, "readline", lambda _, text=text: text, raising=False)
        path = tmp_path / f"{number}.json"
        made = facts(capsys, "import", str(path))
        assert load_keystore(path, "pw").secret == key
        assert parse_address(made["address"]) == load_keystore(path, "pw").address
    monkeypatch.setattr(sys.stdin, "readline", lambda _: "0x1234", raising=False)
    assert main(["wallet", "import", str(tmp_path / "bad.json")]) == 1
    told = capsys.readouterr().err
    assert "not a secret key (seen: 6 characters" in told and "1234" not in told.replace("wanted", "")
    assert main(["wallet", "import", str(tmp_path / "0.json")]) == 1 and not (tmp_path / "bad.json").exists()


def test_an_account_is_imported_from_another_wallets_keystore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eth_account import Account

    theirs = tmp_path / "theirs.json"
    theirs.write_text(json.dumps(Account.encrypt(keccak256(b"theirs"), "old", iterations=2)))
    monkeypatch.setenv("POT_LAB_PASSWORD", "new")
    monkeypatch.setenv("POT_LAB_IMPORT_PASSWORD", "old")
    assert facts(capsys, "import", str(tmp_path / "ours.json"), "--from", str(theirs))
    assert load_keystore(tmp_path / "ours.json", "new").secret == keccak256(b"theirs")
    monkeypatch.setenv("POT_LAB_IMPORT_PASSWORD", "wrong")
    assert main(["wallet", "import", str(tmp_path / "more.json"), "--from", str(theirs)]) == 1
    assert "WrongPassword" in capsys.readouterr().err
    assert main(["wallet", "import", str(tmp_path / "more.json"), "--from", str(tmp_path / "none.json")]) == 1
    assert "no such keystore" in capsys.readouterr().err


def test_a_signer_that_keeps_the_key_pays(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    to = format_address(world.aggregators[0].address)
    with signing_program(world.client) as (url, asked):
        found = facts(capsys, "payout-address", to, "--signer", url, "--yes")
        assert found == {"payout_address": to} and asked == ["eth_accounts", "eth_signTransaction"]
        assert facts(capsys, "fund", "5", "--signer", url, "--account", format_address(CLIENT), "--yes") == {
            "balance_grains": (10**5 - 5) * POT
        }
        shown = facts(capsys, "fund", "5", "--signer", url, "--dry-run")["dry_run"]
        assert shown["account"] == format_address(CLIENT) and held(world) == (10**5 - 5) * POT
    assert world.wallet().payout_address(CLIENT) == world.aggregators[0].address
