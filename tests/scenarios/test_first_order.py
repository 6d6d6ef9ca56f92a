"""A first order, end to end, on real parts: by `pot-lab demo`, and by hand from a notebook, both at once on one
machine.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.crypto.canonical import sha256
from pot_lab.protocol.records import model_id
from tests.scenarios.planted import files_with, secrets_of, take_password, watching
from tests.scenarios.processes import await_nothing_left, run, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_000)]
PLANTED = "what only the miner itself may read"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="module")
def train_for() -> str:
    """Longer than in the demo proper: two whole networks share two cores here."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import torch, sklearn.model_selection"], check=True)
    return f"{max(40, int(5 * (time.monotonic() - begun)))}s"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, train_for: str) -> Iterator[dict[str, Any]]:
    """Run both at once: the demo with a backup killed on the way, and order.ipynb against a testnet with miners of its
    own.
    """
    demo_folder, hand = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("by-hand")
    demo = start(
        ["demo", "--run-dir", str(demo_folder / "run"), "--train-for", train_for, "--kill-backup", "--json"],
        demo_folder,
    )
    miners: list[subprocess.Popen[bytes]] = []
    home = hand / "home"
    accounts = home / "networks" / "local" / "accounts"
    passwords: dict[Path, str] = {}
    watched_pids: list[int] = []
    watching_them = watching(watched_pids, home)
    watched = watching_them.__enter__()
    try:
        up = run(["testnet", "up", "--json"], home)
        assert up.returncode == 0, up.stderr
        for role, account in [("provider", "provider-0"), *(("validator", f"validator-{i}") for i in range(3))]:
            folder = hand / account
            folder.mkdir()
            given = ["mine", role, "--account", account, "--orders", "1", "--set", "threads=1"]
            passwords[accounts / account] = password = take_password(accounts / account)
            miners.append(start(given, folder, home=home, POT_LAB_PASSWORD=password, A_SECRET=PLANTED))
            watched_pids.append(miners[-1].pid)
        notebook = subprocess.run(
            [
                sys.executable, "-m", "papermill", str(NOTEBOOKS / "order.ipynb"), str(hand / "order.ipynb"),
                "-p", "train_for", train_for, "--no-progress-bar",
            ],
            capture_output=True, text=True, timeout=1_500, env={**os.environ, "POT_LAB_HOME": str(home)},
        )  # fmt: skip
        ends = [miner.wait(400) for miner in miners] if notebook.returncode == 0 else []
        orders = run(["orders", "--json"], home)
        code = demo.wait(1_500)
        yield {
            "demo": code,
            "demo_output": (demo_folder / "output.txt").read_text(),
            "run": demo_folder / "run",
            "notebook": notebook,
            "executed": hand / "order.ipynb",
            "miners": ends,
            "watched": watched,
            "passwords": passwords,
            "orders": orders,
            "home": home,
        }
    finally:
        watching_them.__exit__(None, None, None)
        for process in [demo, *miners]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(400)
        run(["testnet", "down"], home)


@pytest.fixture(scope="module")
def summary(world: dict[str, Any]) -> dict[str, Any]:
    assert world["demo"] == 0, world["demo_output"]
    found: dict[str, Any] = json.loads(world["demo_output"].strip().splitlines()[-1])
    return found


def test_the_demo_ends_with_one_json_object_that_tells_everything(summary: dict[str, Any]) -> None:
    wanted = {"order", "phases", "claims", "validations", "winner", "score", "payouts", "settlement", "model_path"}
    assert wanted <= set(summary)
    names = [phase["name"] for phase in summary["phases"]]
    assert names[1:] == [
        "commit", "reveal", "release", "score", "open_scores", "challenge", "open_challenges", "judge", "finalization",
    ]  # fmt: skip
    assert all(phase["opened_ms"] <= phase["closed_ms"] for phase in summary["phases"])
    assert len(summary["claims"]) == 3
    assert set(summary["score"]) == {"total", "count", "valid"}


def test_all_validators_agree_to_the_bit(summary: dict[str, Any]) -> None:
    assert len(summary["validations"]) == 12
    for claim in summary["claims"]:
        said = [(v["total"], v["count"], v["root"]) for v in summary["validations"] if v["model"] == claim["model"]]
        assert len(said) == 4 and len(set(said)) == 1
    assert summary["verified"]["checked"] == 12
    assert summary["verified"]["differing"] == []


def test_the_best_model_wins_and_has_learnt_something(summary: dict[str, Any]) -> None:
    best = max(summary["claims"], key=lambda claim: (claim["total"], -claim["place"]))
    assert summary["winner"] == best["provider"]
    assert summary["score"]["total"] == best["total"]
    assert summary["score"]["count"] == 540
    assert summary["score"]["total"] > 0.9 * 540


def test_every_grain_is_accounted_for_and_claimed(summary: dict[str, Any]) -> None:
    paid = {payout["reason"]: 0 for payout in summary["payouts"]}
    for payout in summary["payouts"]:
        paid[payout["reason"]] += payout["grains"]
    pot = 10**9
    assert paid["winner"] == 20 * pot
    assert paid["validator"] + paid["aggregator"] + paid.get("rounding", 0) >= 5 * pot
    earners = [p for p in summary["payouts"] if p["reason"] in ("winner", "validator", "validation fee", "aggregator")]
    assert earners and all(payout["claimed"] for payout in earners)
    assert summary["settlement"]["transaction"] and summary["settlement"]["gas"] < 300_000


def test_a_backup_killed_on_the_way_changes_nothing_and_comes_back(
    world: dict[str, Any], summary: dict[str, Any]
) -> None:
    assert "was killed with -9" in world["demo_output"]
    assert "was started again from its log" in world["demo_output"]
    digests = []
    for index in range(4):
        log = (world["run"] / "home/networks/demo/logs" / f"aggregator-{index}.log").read_text()
        stopped = [line for line in log.splitlines() if " stopped " in line]  # a watcher may say more after it
        digests.append(stopped[-1].split("executed=")[-1])
    assert len(set(digests)) == 1, f"all four executed the same number of batches: {digests}"


def test_the_model_left_behind_is_the_one_that_won(world: dict[str, Any], summary: dict[str, Any]) -> None:
    import torch

    from pot_lab.scoring import load_graph, trainable

    folder = Path(summary["model_path"])
    graph, weights = (folder / "graph.json").read_bytes(), (folder / "weights.safetensors").read_bytes()
    winning = next(claim for claim in summary["claims"] if claim["provider"] == summary["winner"])
    assert model_id(sha256(graph), sha256(weights)).hex() == winning["model"]
    net = trainable(load_graph(graph), weights).eval()
    with torch.no_grad():
        assert net(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_the_run_directory_tells_the_story(world: dict[str, Any], summary: dict[str, Any]) -> None:
    folder = world["run"]
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert len((folder / "leaderboard.csv").read_text().strip().splitlines()) == 4
    assert json.loads((folder / "summary.json").read_text()) == summary
    worked = [name for name in summary["notebooks"] if "/rival-" not in name]  # which end with their provider
    assert len(worked) == 8
    for name in worked:
        cells = json.loads((folder / name).read_text())["cells"]
        assert not any(output["output_type"] == "error" for cell in cells for output in cell.get("outputs", []))
    evidence = [json.loads(path.read_text()) for path in (folder / "home/work").glob("provider-*/*/evidence.json")]
    assert len(evidence) == 3
    for each in evidence:
        assert each["device"] and each["precision"] and each["torch"] and each["wall_time_s"] > 0
    assert {each["seed"] for each in evidence} == {1, 2, 3}


def test_nothing_is_left_running(world: dict[str, Any], summary: dict[str, Any]) -> None:
    assert await_nothing_left(world["run"]) == []


def test_the_notebook_does_the_same_by_hand(world: dict[str, Any]) -> None:
    assert world["notebook"].returncode == 0, world["notebook"].stderr[-3000:]
    cells = json.loads(world["executed"].read_text())["cells"]
    text = "".join("".join(o.get("text", [])) for c in cells for o in c.get("outputs", []))
    assert "exact score" in text
    assert "settled" in text
    kinds = {kind for c in cells for o in c.get("outputs", []) for kind in o.get("data", {})}
    assert "image/png" in kinds and "text/html" in kinds


def test_the_miners_by_hand_finish_and_the_order_is_found_again(world: dict[str, Any]) -> None:
    assert world["miners"] == [0, 0, 0, 0]
    found = json.loads(world["orders"].stdout)
    assert [order["window"] for order in found] == ["settled"]


def test_no_secret_stands_anywhere_after_a_whole_order(world: dict[str, Any]) -> None:
    """Not in logs, executed notebooks, blobs, the ledger's data, command lines, or a notebook's environment."""
    assert world["notebook"].returncode == 0, world["notebook"].stderr[-3000:]
    home, watched = world["home"], world["watched"]
    network = home / "networks" / "local"
    secrets = {"planted": PLANTED.encode()}
    for keys in (*network.glob("accounts/*"), *network.glob("aggregators/*/keys")):
        secrets |= secrets_of(keys, world["passwords"].get(keys))
    assert len(secrets) > 50 and all(len(secret) >= 20 for secret in secrets.values())
    looked, found = files_with(secrets, home.parent)
    assert looked > 100 and list(home.rglob("*.ipynb")) and list(network.glob("logs/*.log"))
    assert found == []
    seen = "\n".join(watched.commands | watched.environments).encode()
    assert b"pot_lab.jobs." in seen and str(home).encode() in seen, "it did look while notebooks ran"
    assert [name for name, secret in secrets.items() if secret in seen] == []


PUBLIC = {"blobs", "network.toml", "store.port", "testnet.json"}
"""What everybody may read of a testnet; the folders above have no names that tell anything."""


def test_what_is_not_public_is_for_its_user_alone(world: dict[str, Any]) -> None:
    home = world["home"]
    open_to_others = []
    for path in home.rglob("*"):
        below = path.relative_to(home).parts
        is_public = below in (("networks",), ("networks", "local")) or (
            below[:2] == ("networks", "local") and below[2] in PUBLIC
        )
        is_below_private = any(not each.stat().st_mode & 0o077 for each in path.parents if each.is_relative_to(home))
        if not is_public and not is_below_private and path.lstat().st_mode & 0o077:
            open_to_others.append(f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(home)}")
    assert open_to_others == []


@pytest.mark.parametrize("moment", ["making keys", "deploying contracts", "starting 4 aggregators", "commit (TRAINING"])
def test_ctrl_c_at_any_moment_leaves_nothing_running(tmp_path: Path, moment: str) -> None:
    demo = start(["demo", "--run-dir", str(tmp_path / "run"), "--train-for", "60s"], tmp_path)
    output = tmp_path / "output.txt"
    deadline = time.monotonic() + 400
    while moment not in output.read_text():
        assert demo.poll() is None and time.monotonic() < deadline, output.read_text()
        time.sleep(0.02)
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal sends it
    assert demo.wait(400) == 130, output.read_text()
    assert await_nothing_left(tmp_path) == []
    assert "Traceback" not in output.read_text()
