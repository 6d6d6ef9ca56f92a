"""Commands on a real testnet: what they print, and that the options mean what they say."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.cli.main import main
from pot_lab.crypto.identity import format_address
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import NetworkConfig
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Register
from pot_lab.scoring import export_model, pack_dataset
from pot_lab.testnet.testnet import Testnet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testnet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        made = Testnet.up("cli", providers=1, validators=0, verifiers=0, durability="flush")
        try:
            yield made
        finally:
            made.down()


@pytest.fixture(autouse=True)
def at_home(net: Testnet, no_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(net.folder.parents[1]))


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    return error


def test_the_testnets_status_lists_processes_accounts_and_aggregators(
    net: Testnet, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, Any] = {"aggregators": []}
    for _ in range(60):  # on a busy machine one may answer later than a status waits
        if found["aggregators"] and all(each["reachable"] for each in found["aggregators"]):
            break
        found = facts(capsys, "testnet", "status")
    assert found["name"] == "cli" and Path(found["network"]) == net.network_file
    assert found["accounts"] == ["client", "deployer", "provider-0", "treasury"]
    assert set(found["processes"]) == {"chain", "store", *(f"aggregator-{i}" for i in range(4))}
    assert all(found["processes"].values())
    assert [each["index"] for each in found["aggregators"]] == [0, 1, 2, 3]
    assert all(each["reachable"] for each in found["aggregators"])
    assert main(["testnet", "status", "--name", "cli"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"testnet cli: {net.network_file}" and lines[-1] == "  accounts: client, provider-0"
    assert {"  chain: running", "  store: running"} < set(lines)
    assert "NoTestnet" in refused(capsys, "testnet", "status", "--name", "other")
    assert "TestnetRunning" in refused(capsys, "testnet", "up", "--name", "cli")


def test_a_wallet_shows_balance_and_stakes_of_the_chosen_account(
    net: Testnet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = facts(capsys, "wallet")
    assert client["address"] == format_address(net.identity("client").address)
    assert (client["balance_grains"], client["stakes_grains"], client["earned_grains"]) == (10_000 * 10**9, {}, 0)
    provider = facts(capsys, "wallet", "show", "--network", "cli", "--account", "provider-0")
    assert provider["address"] == format_address(net.identity("provider-0").address)
    assert provider["balance_grains"] == 100 * 10**9 and set(provider["stakes_grains"]) == {"provider"}
    monkeypatch.setenv("POT_LAB_ACCOUNT", "provider-0")
    assert facts(capsys, "wallet", "claim") == provider
    assert main(["wallet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    staked = provider["stakes_grains"]["provider"] // 10**9
    assert [line.split() for line in lines] == [
        ["account", provider["address"]],
        ["balance", "100", "POT"],
        ["stake", str(staked), "POT", "as", "provider"],
        ["earned", "0", "POT,", "of", "which", "0", "POT", "claimed"],
    ]
    assert "UnknownAccount" in refused(capsys, "wallet", "--account", "nobody")


def test_a_stake_leaves_the_balance(net: Testnet, capsys: pytest.CaptureFixture[str]) -> None:
    before = facts(capsys, "wallet")["balance_grains"]
    assert facts(capsys, "wallet", "stake", "validator", "150", "--yes")["balance_grains"] == before - 150 * 10**9
    with_minimum = facts(capsys, "wallet", "stake", "verifier", "-y")["balance_grains"]
    assert 0 < before - 150 * 10**9 - with_minimum < 10_000 * 10**9


def test_the_stake_that_is_told_is_what_the_chain_has_now(net: Testnet, capsys: pytest.CaptureFixture[str]) -> None:
    """The ledger knows of it only after its confirmations."""
    first = facts(capsys, "wallet", "stake", "validator", "1", "--yes")
    second = facts(capsys, "wallet", "stake", "validator", "1", "--yes")
    assert first["role"] == "validator" and second["bonded_grains"] == first["bonded_grains"] + 10**9 > 150 * 10**9
    assert main(["wallet", "stake", "validator", "1", "--yes"]) == 0
    assert f"stake    {second['bonded_grains'] // 10**9 + 1} POT as validator\n" in capsys.readouterr().out


def test_without_orders_none_is_listed_and_none_is_found(net: Testnet, capsys: pytest.CaptureFixture[str]) -> None:
    assert facts(capsys, "orders") == [] and facts(capsys, "orders", "--mine") == []
    assert main(["orders", "--network", str(net.network_file), "--account", str(net.folder / "accounts/client")]) == 0
    assert capsys.readouterr().out == "no orders\n"
    assert "NoSuchOrder: no order's id begins with these digits (seen: ab, wanted: an order" in refused(
        capsys, "orders", "ab"
    )
    assert "UnknownOrder" in refused(capsys, "orders", "0x" + "ab" * 32)


def test_seats_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(capsys, "seat")
    assert len(found["seats"]) == 4 and found["quorum"] == 3 and not found["change_pending"]
    assert facts(capsys, "seat", "show", "--network", "cli") == found


def test_a_miner_without_a_stake_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "wallet stake" in refused(capsys, "mine", "provider", "--account", "client")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of `pot-lab order` for a small model and data from files."""
    import torch

    folder = tmp_path_factory.mktemp("task")
    torch.manual_seed(0)
    inputs, targets = torch.rand(32, 4), torch.arange(32) % 3
    artifact = export_model(torch.nn.Linear(4, 3), (inputs[:2],))
    options = []
    for name, data in (
        ("graph", artifact.graph),
        ("weights", artifact.weights),
        ("train", pack_dataset(inputs[:16], targets[:16])),
        ("test", pack_dataset(inputs[16:], targets[16:])),
    ):
        (folder / name).write_bytes(data)
        options += [f"--{name}", str(folder / name)]
    return options


def test_a_file_that_cannot_be_read_is_named(task: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["nowhere/graph" if option.endswith("/graph") else option for option in task]
    error = refused(capsys, "order", *wrong, "--reward", "5", "--train-for", "60s")
    assert "a file cannot be read (seen: nowhere/graph: No such file or directory)" in error


def test_a_parameter_is_changed_by_vote(net: Testnet, capsys: pytest.CaptureFixture[str]) -> None:
    def as_aggregator(index: int, *arguments: str) -> Any:
        keys = net.folder / "aggregators" / str(index) / "keys"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POT_LAB_PASSWORD", (keys / "password").read_text().strip())
            return facts(capsys, *arguments, "--account", str(keys / "account.json"))

    before = facts(capsys, "params")
    assert before["parameters"]["update_ms"] == 2_000 and before["version"] == 1
    assert facts(capsys, "chain", "status")["timelock"]["delay_s"] == 5
    number = as_aggregator(0, "propose", "update_ms=3_000", "timelock_ms=6_000")["proposal"]
    for index in range(3):
        assert as_aggregator(index, "vote", str(number), "yes") == {"proposal": number, "approve": True}
    assert "NotAllowed" in refused(capsys, "vote", str(number), "no")
    deadline_s = time.monotonic() + 400
    while facts(capsys, "params")["parameters"]["update_ms"] != 3_000:
        assert time.monotonic() < deadline_s, facts(capsys, "params")
        time.sleep(0.5)
    (ended,) = facts(capsys, "params")["proposals"]
    assert ended["outcome"] == "in force" and ended["for_grains"] == 600 * 10**9
    while facts(capsys, "chain", "status")["timelock"]["delay_s"] != 6:  # the contracts follow by themselves
        assert time.monotonic() < deadline_s, facts(capsys, "params")
        time.sleep(0.5)


def test_status_says_that_a_network_is_healthy_and_metrics_what_it_counts(
    net: Testnet, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--network", str(net.network_file)]  # as for any network, not by the testnet's name
    found = facts(capsys, "status", *where)
    assert found["healthy"] and {each["level"] for each in found["findings"]} == {"ok"}, found
    told = "\n".join(each["text"] for each in found["findings"])
    assert "aggregator 3:" in told and "the chain is at block" in told and "the store at" in told
    counted = facts(capsys, "metrics", *where)
    assert set(counted) == {"0", "1", "2", "3"} and all(values["up"] for values in counted.values())
    assert main(["metrics", *where, "--index", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'pot_lab_up{aggregator="2"} 1' in lines and all('aggregator="2"' in line for line in lines)
    assert any(line.startswith('pot_lab_executed_sequence{aggregator="2"}') for line in lines)
    assert "BadConfig" in refused(capsys, "metrics", *where, "--index", "4")


def test_status_names_the_aggregator_that_is_down_and_ends_with_exit_code_1(
    net: Testnet, capsys: pytest.CaptureFixture[str]
) -> None:
    os.kill(net.pid("aggregator-3"), signal.SIGKILL)
    try:
        assert main(["status", "--network", str(net.network_file), "--timeout", "3"]) == 1
        shown = capsys.readouterr().out
        assert "wrong    aggregator 3: " in shown and "-> start it" in shown
        assert "the network decides; no other may stop" in shown
    finally:
        while net.processes()["aggregator-3"]:
            time.sleep(0.05)
        net.start_aggregator(3)


def test_an_order_from_files_is_placed_listed_and_found_by_its_first_digits(
    net: Testnet, task: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    facts(capsys, "wallet", "stake", "validator", "150", "--yes")
    for account, role in (
        ("provider-0", Role.PROVIDER),
        ("client", Role.VALIDATOR),
    ):  # who must be there
        with LedgerClient(NetworkConfig.load(net.network_file), net.identity(account)) as client:
            while not client.account(net.identity(account).address).stakes[role].bonded_grains:
                time.sleep(0.1)  # the aggregators have not seen the stake on the chain yet
            client.submit(Register(int(role)), timeout_s=240)
    terms = ["--reward", "5", "--train-for", "60s", "--title", "from files"]
    placed = facts(capsys, "order", *task, *terms)
    assert (placed["title"], placed["claims"], placed["winner"]) == ("from files", [], None)
    listed = facts(capsys, "orders")
    assert [(each["order"], each["title"], each["claims"]) for each in listed] == [(placed["order"], "from files", 0)]
    assert [each["order"] for each in facts(capsys, "orders", "--mine")] == [placed["order"]]
    assert facts(capsys, "orders", "--mine", "--account", "provider-0") == []
    assert main(["orders"]) == 0
    assert capsys.readouterr().out.startswith(placed["order"][:12] + "  ")
    assert facts(capsys, "orders", placed["order"][:6])["order"] == placed["order"]
    assert main(["orders", "0x" + placed["order"]]) == 0
    assert "reward     5 POT" in capsys.readouterr().out
    missing = "1" if placed["order"][0] == "0" else "0"
    assert f"wanted: one of {placed['order'][:12]}" in refused(capsys, "orders", missing)
