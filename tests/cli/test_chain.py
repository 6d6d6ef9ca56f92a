"""`pot-lab chain` on a real chain: deploy with a named account, then see and verify what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.cli.main import main
from pot_lab.crypto.identity import format_address
from pot_lab.crypto.keystore import TESTNET_WORK_FACTOR
from pot_lab.network.aggregator.keys_folder import make_account
from pot_lab.network.config import NetworkConfig
from tests.chain.world import running_chain
from tests.network.founding.parts import Operators

GRANTED = "0x" + "07" * 20


@pytest.fixture(scope="module")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_chain(Path(tmp_path_factory.mktemp("chain"))) as url:
        yield url


@pytest.fixture
def cards(tmp_path: Path) -> list[str]:
    operators = Operators(tmp_path)
    paths = [folder / "card.toml" for folder in operators.folders]
    for path, card in zip(paths, operators.cards, strict=True):
        path.write_text(card.to_text())
    return list(map(str, paths))


def facts(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_contracts_are_deployed_shown_verified_and_founded_upon(
    chain_url: str, cards: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    founder = make_account(tmp_path / "founder", work_factor=TESTNET_WORK_FACTOR)
    out, account = tmp_path / "contracts.toml", ["--account", str(tmp_path / "founder")]
    deploy = ["chain", "deploy", *cards, "--chain", chain_url, *account, "--out", str(out)]
    assert main(deploy) == 1  # no terminal can be asked
    assert "--yes" in capsys.readouterr().err and not out.exists()
    made = facts(capsys, *deploy, "--yes", "--grant", f"{GRANTED}=5")
    assert main([*deploy, "--yes"]) == 1
    assert "never overwritten" in capsys.readouterr().err

    where = ["--chain", chain_url, "--contracts", str(out)]
    state = facts(capsys, "chain", "status", *where)
    lock = state["timelock"]
    assert set(state["owners"].values()) == {lock["address"]} == set(lock["admins"])
    assert all(state["owner_is_contract"].values()) and not state["is_paused"]
    assert (lock["proposers"], lock["delay_s"]) == ([lock["governor"]], 2 * 86_400)
    assert lock["governor"] != format_address(founder.address)
    assert (state["threshold"], len(state["signers"])) == (3, 4)
    assert state["staked_grains"] > 0 and state["epoch"] == 0
    assert facts(capsys, "chain", "verify", *where)["troubles"] == []
    assert main(["chain", "status", *where]) == 0
    shown = capsys.readouterr().out
    assert "one key can change the contract" not in shown and "3 of 4, set 1" in shown
    who = f"a quorum of the signers, through {lock['governor']}"
    assert f"timelock    every act waits 48 h; proposed by {who}; executed by anybody" in shown

    file = tmp_path / "network.toml"
    found = ["network", "found", *cards, "--chain", chain_url, *account, "--name", "four", "--out", str(file)]
    facts(capsys, *found, "--contracts", str(out))
    config = NetworkConfig.load(file)
    assert config.chain is not None and format_address(config.chain.settlement) == made["settlement"]
    balance = facts(capsys, "wallet", "balance", GRANTED, "--network", str(file))
    assert balance["balance_grains"] == 5 * 10**9
    assert facts(capsys, "chain", "verify", "--network", str(file))["troubles"] == []


def test_contracts_that_are_not_ours_end_with_exit_code_1(
    chain_url: str, cards: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_account(tmp_path / "founder", work_factor=TESTNET_WORK_FACTOR)
    out = tmp_path / "contracts.toml"
    account = ["--account", str(tmp_path / "founder"), "--yes"]
    made = facts(capsys, "chain", "deploy", *cards, "--chain", chain_url, *account, "--out", str(out))
    out.write_text(out.read_text().replace(made["escrow"], made["registry"]))
    found = facts(capsys, "chain", "verify", "--chain", chain_url, "--contracts", str(out), code=1)
    assert "OrderEscrow" in found["troubles"][0]


def test_the_build_is_shown_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    build = facts(capsys, "chain", "artifacts", "--check")
    assert build["troubles"] == [] and build["bytes"]["RewardSettlement"] > 10_000


def test_contracts_without_a_node_are_wrong_usage(tmp_path: Path) -> None:
    assert main(["chain", "status", "--contracts", str(tmp_path / "contracts.toml")]) == 2
