"""The notebooks cell by cell under nbval: those of a researcher on a real testnet, those of miners in real workspaces.

`paper_tables.ipynb` has a test of its own in `tests/bench`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pot_lab.jobs.workspace import Workspace, read_results
from pot_lab.notebook.lab import connect
from pot_lab.protocol.cycle import Window
from pot_lab.scoring import dataset_root, export_model, pack_dataset
from pot_lab.testnet.testnet import Testnet
from tests.testnets import register_miners

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
TIMEOUT_S = 600


BEGINS_NOW = """
import json, pathlib, time
import torch, pot_lab.training
order_file = pathlib.Path(workspace) / "order.json"
stop_ms = int(1000 * (time.time() + {seconds}))
order_file.write_text(json.dumps({{**json.loads(order_file.read_text()), "stop_training_ms": stop_ms}}))
"""
"""Its window begins when the kernel has loaded torch, however long that takes here."""


def copy_with(name: str, folder: Path, parameters: Mapping[str, Any], more: str = "") -> Path:
    """A copy of a notebook with other parameters, and more code after them."""
    content = json.loads((NOTEBOOKS / name).read_text())
    left = dict(parameters)
    for cell in content["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = "".join(cell["source"]).splitlines()
            for number, line in enumerate(lines):
                parameter = line.partition(":")[0]
                if parameter in left:
                    lines[number] = f"{parameter} = {left.pop(parameter)!r}"
            cell["source"] = "\n".join(lines) + more
    assert not left, f"{name} has no such parameters: {left}"
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def run_cells(*notebooks: Path) -> None:
    """Run every cell of the notebooks; a cell that fails fails the test."""
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", *map(str, notebooks)]
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=notebooks[0].parent, env=dict(os.environ)
    )
    assert ran.returncode == 0, ran.stdout[-6000:]


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 300)
def test_every_cell_of_a_researchers_notebooks_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    copies = [copy_with(name, tmp_path, {"wait": False}) for name in ("order.ipynb", "tour.ipynb")]
    net = Testnet.up("nbval", providers=1, validators=3, verifiers=0, durability="flush")
    register_miners(net)
    try:
        run_cells(*copies)
        assert net.missing() == []  # the tour kills an aggregator, and starts it again
        with connect() as lab:
            orders = lab.orders()
            assert sorted(order.view().order.title for order in orders) == ["digits CNN", "tour"]
            assert all(order.window in (Window.COMMIT, Window.WAITING, Window.VOID) for order in orders)
    finally:
        net.down()


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 300)
def test_every_cell_of_the_ten_tasks_runs(tmp_path: Path) -> None:
    run_cells(copy_with("tasks.ipynb", tmp_path, {}))


@pytest.mark.slow
@pytest.mark.timeout(TIMEOUT_S + 300)
def test_every_cell_of_the_miners_notebooks_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 4)
    y = (x[:, 0] > x[:, 1]).long()
    model = export_model(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), x[:2])
    facts = {"order_id": "ab" * 32, "title": "lines", "score": "accuracy/1"}
    files = {"graph.json": model.graph, "weights.safetensors": model.weights, "train.safetensors": pack_dataset(x, y)}
    copies = []
    for name, seconds in (("provider", 15), ("miner", 25)):
        Workspace.create(tmp_path / name, {**facts, "stop_training_ms": 0}, files)
        given = {"workspace": str(tmp_path / name), "threads": 1}
        copies.append(copy_with(f"{name}.ipynb", tmp_path, given, BEGINS_NOW.format(seconds=seconds)))
    mid = "cd" * 32
    scoring = {**facts, "models": [mid], "test_root": dataset_root(x, y).hex()}
    opened = {
        "graph.json": model.graph,
        "test.safetensors": pack_dataset(x, y),
        f"models/{mid}.safetensors": model.weights,
    }
    for name in ("validator", "verifier"):
        Workspace.create(tmp_path / name, scoring, opened)
        copies.append(copy_with(f"{name}.ipynb", tmp_path, {"workspace": str(tmp_path / name), "threads": 1}))
    run_cells(*copies)
    for name in ("provider", "miner"):
        assert list((tmp_path / name / "models").glob("*.safetensors")), name
        assert json.loads((tmp_path / name / "evidence.json").read_text())["seed"] == 0
    chosen = json.loads((tmp_path / "miner" / "checkpoints" / "settings.json").read_text())
    assert "learning_rate" in chosen or chosen == {}  # where no trial came to its end, the usual ones are taken
    first, second = (read_results(tmp_path / name) for name in ("validator", "verifier"))
    assert first == second and [result.mid for result in first] == [mid] and first[0].count == 200
