"""README's five lines in a fresh home: they end with a better model than the given one, and with settled money."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from tests.scenarios.processes import await_nothing_left, run

LINES = """
import json, time
import torch, sklearn.datasets
from torch import nn
import pot_lab

digits = sklearn.datasets.load_digits()
X, Y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
x, y, xt, yt = X[:1400], Y[:1400], X[1400:], Y[1400:]
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

lab = pot_lab.connect()
before = lab.balance()
order = lab.order(model=net, train=(x, y), test=(xt, yt), score="accuracy", reward=25, train_for=TRAIN_FOR)
order.wait(settled=True)
best = order.model()

view = order.view()
own = pot_lab.score(net, xt, yt).total
deadline = time.monotonic() + 400
while lab.on_its_way() and time.monotonic() < deadline:  # what is returned comes home by itself
    time.sleep(0.5)
    lab.balance()
right = int((best(xt).argmax(1) == yt).sum())
print(json.dumps({
    "first": own, "best": order.rescore().total, "right": right,
    "baseline": view.order.baseline_total,
    "window": view.window, "spent": str(before - lab.balance()),
    "client": sum(p.grains for p in view.payouts if p.account == lab.identity.address),
    "escrow": view.order.reward_grains + view.order.fee_grains + view.order.bond_grains,
    "on_its_way": str(lab.on_its_way()),
}))
"""


@pytest.mark.slow
@pytest.mark.timeout(2_400)
def test_readmes_lines_in_a_fresh_home_end_with_a_better_model_and_settled_money(tmp_path: Path) -> None:
    home = tmp_path / "home"
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"TRAIN_FOR = '60s'\n{LINES}"],
            capture_output=True, text=True, timeout=2_000, env={**os.environ, "POT_LAB_HOME": str(home)}, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert "practice miners" in done.stdout
        found = json.loads(done.stdout.strip().splitlines()[-1])
        assert found["window"] == "settled"
        assert found["best"] > found["baseline"] >= found["first"]
        assert abs(found["right"] - found["best"]) <= 2
        assert found["on_its_way"] == "0"
        assert Decimal(found["spent"]) * 10**9 == found["escrow"] - found["client"]
    finally:
        run(["testnet", "down"], home)
    assert await_nothing_left(home) == []
