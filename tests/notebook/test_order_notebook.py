"""`notebooks/order.ipynb` cell by cell under nbval, against a real testnet: it posts a paid order and shows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pot_lab.notebook.lab import connect
from pot_lab.protocol.cycle import Window
from pot_lab.testnet.testnet import Testnet
from tests.testnets import register_miners

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "order.ipynb"


@pytest.mark.slow
def test_every_cell_of_the_order_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    content = json.loads(NOTEBOOK.read_text())
    for cell in content["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            cell["source"] = "".join(cell["source"]).replace("wait: bool = True", "wait: bool = False")
    copy = tmp_path / "order.ipynb"
    copy.write_text(json.dumps(content))
    net = Testnet.up("nbval", providers=1, validators=3, verifiers=0, durability="flush")
    register_miners(net)
    try:
        command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", str(copy)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=540, cwd=tmp_path, env=dict(os.environ))
        assert ran.returncode == 0, ran.stdout[-3000:]
        with connect() as lab:
            orders = lab.orders()
            assert [order.view().order.title for order in orders] == ["digits CNN"]
            assert orders[0].window in (Window.COMMIT, Window.WAITING)
    finally:
        net.down()
