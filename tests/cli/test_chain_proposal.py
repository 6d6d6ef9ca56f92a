"""`pot-lab chain proposal` on a real chain: a file goes round, a quorum signs it, and the contracts change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pot_lab.cli.main import main
from pot_lab.crypto.identity import format_address
from pot_lab.crypto.keystore import save_keystore
from pot_lab.network.chain_access import chain_config_of
from tests.chain.owned import DELAY_S, FOUNDER, STRANGER, Owned, owned_network
from tests.chain.signing_program import signing_program
from tests.chain.world import DAY_S, POT, running_chain
from tests.notebook.in_process import config_of
from tests.protocol.world import World as LedgerWorld

DRAFT = ["draft", "FILE", "--call", "escrow.setMinReward 5000000000", "--reason", "rewards were too small"]


@pytest.fixture(scope="module")
def chain_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with (
        running_chain(Path(tmp_path_factory.mktemp("chain")), "--control") as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("POT_LAB_HOME", str(tmp_path_factory.mktemp("home")))
        yield url


@pytest.fixture
def owned(chain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Owned]:
    """Contracts that a timelock owns, a network file that names them, and a keystore of everybody."""
    with owned_network(chain_url) as made:
        chain = chain_config_of(chain_url, made.contracts)
        config = msgspec.structs.replace(config_of(LedgerWorld(), str(tmp_path)), chain=chain)
        config.save(tmp_path / "network.toml")
        people = {**{f"signer{i}": each for i, each in enumerate(made.signers)}, "founder": FOUNDER, "other": STRANGER}
        for name, each in people.items():
            save_keystore(tmp_path / f"{name}.json", each, "pw", work_factor=2)
        monkeypatch.setenv("POT_LAB_NETWORK", str(tmp_path / "network.toml"))
        monkeypatch.setenv("POT_LAB_ACCOUNT", str(tmp_path / "other.json"))
        monkeypatch.setenv("POT_LAB_PASSWORD", "pw")
        monkeypatch.chdir(tmp_path)
        yield made


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    """What a command prints as JSON, or its refusal."""
    said = main(["chain", "proposal", *arguments, "--json"])
    seen = capsys.readouterr()
    assert said == code, seen.err
    return seen.err if code else json.loads(seen.out.splitlines()[-1])


def min_reward(owned: Owned) -> object:
    return owned.read("OrderEscrow", owned.contracts.escrow, "minReward")[0]


def test_a_quorum_signs_a_file_and_anybody_has_it_carried_out(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(capsys, *DRAFT)
    assert made["does"] == ["set the least reward of an order to 5 POT"] and made["stands"] == "not proposed"
    assert (made["signatures"], made["signatures_wanted"], made["number"]) == ([], 2, 1)
    assert "never overwritten" in run(capsys, *DRAFT, code=1)

    assert "NotConfirmed" in run(capsys, "sign", "FILE", "--account", "signer0.json", code=1)
    assert run(capsys, "show", "FILE")["signatures"] == []
    run(capsys, "sign", "FILE", "--account", "signer0.json", "--yes")
    assert "NotEnoughSignatures" in run(capsys, "send", "FILE", "--yes", code=1)
    assert main(["chain", "proposal", "sign", "FILE", "--account", "signer1.json", "--yes"]) == 0
    seen = capsys.readouterr()
    assert "set the least reward of an order to 5 POT" in seen.err, "said before it is signed"
    assert "signed   by 2, 2 are needed" in seen.out and "stands   not proposed" in seen.out

    height = owned.rpc.call("eth_blockNumber")
    shown = run(capsys, "send", "FILE", "--dry-run")
    assert shown["dry_run"]["function"] == "propose" and owned.rpc.call("eth_blockNumber") == height
    assert run(capsys, "send", "FILE", "--yes")["stands"] == "waits"
    assert "TimelockUnexpectedOperationState" in run(capsys, "execute", "FILE", "--yes", code=1)
    owned.wait()
    assert run(capsys, "show", "FILE")["stands"] == "can be executed" and min_reward(owned) != 5 * POT
    assert run(capsys, "execute", "FILE", "--yes")["stands"] == "done"
    assert min_reward(owned) == 5 * POT


def test_a_quorum_drops_what_waits(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, *DRAFT)
    for name in ("signer0", "signer1"):
        run(capsys, "sign", "FILE", "--account", f"{name}.json", "--yes")
    run(capsys, "send", "FILE", "--yes")
    assert "NotEnoughSignatures" in run(capsys, "cancel", "FILE", "--yes", code=1)
    for name in ("signer1", "signer2"):
        run(capsys, "sign", "FILE", "--cancel", "--account", f"{name}.json", "--yes")
    found = run(capsys, "cancel", "FILE", "--yes")
    assert found["stands"] == "not proposed" and len(found["signatures"]) == 2
    owned.wait()
    assert "TimelockUnexpectedOperationState" in run(capsys, "execute", "FILE", "--yes", code=1)


def test_a_signers_key_may_be_elsewhere(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, *DRAFT)
    first, second = owned.signers[:2]
    with signing_program(first) as (url, asked):
        run(capsys, "sign", "FILE", "--signer", url, "--yes")
        assert asked == ["eth_accounts", "eth_signTypedData_v4"]
    with signing_program(second, STRANGER) as (url, asked):
        assert "not one account" in run(capsys, "sign", "FILE", "--signer", url, "--yes", code=1)
        assert "eth_signTypedData_v4" not in asked
        who = format_address(second.address)
        run(capsys, "sign", "FILE", "--signer", url, "--account", who, "--yes")
        run(capsys, "send", "FILE", "--signer", url, "--account", who, "--yes")
        assert asked[-1] == "eth_signTransaction"
    assert run(capsys, "show", "FILE")["stands"] == "waits"


def test_the_founder_proposes_for_a_network_that_stands_still(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, *DRAFT)
    assert "TooEarly" in run(capsys, "send", "FILE", "--founder", "--account", "founder.json", "--yes", code=1)
    owned.wait(30 * DAY_S)
    assert "NotAllowed" in run(capsys, "send", "FILE", "--founder", "--yes", code=1)
    assert run(capsys, "send", "FILE", "--founder", "--account", "founder.json", "--yes")["stands"] == "waits"


@pytest.mark.parametrize(
    "call",
    ["", "escrow", "escrow.nothing 5", "vault.setMinReward 5", "escrow.setMinReward", "escrow.setMinReward five"],
)
def test_a_call_that_is_none_is_refused_by_name(owned: Owned, capsys: pytest.CaptureFixture[str], call: str) -> None:
    assert "BadOwnerAct" in run(capsys, "draft", "FILE", "--call", call, "--reason", "x", code=1)
    assert not Path("FILE").exists()


def test_every_type_of_argument_is_read(owned: Owned, capsys: pytest.CaptureFixture[str]) -> None:
    who = [format_address(each.address) for each in owned.signers]
    calls = [
        f"settlement.rotate {','.join(who)} 2 0 0x",
        f"settlement.setGuardian {who[0]}",
        f"timelock.updateDelay {DELAY_S}",
        f"timelock.grantRole 0x{'00' * 32} {who[1]}",
    ]
    found = run(capsys, "draft", "FILE", *(f"--call={each}" for each in calls), "--reason", "x")["does"]
    assert found[0].startswith("seat 3 signers, of whom 2 settle") and all(each in found[0] for each in who)
    assert found[1] == f"let {who[0]} pause settlements, and veto them"
    assert found[3].startswith("call Timelock.grantRole(0x")
