"""The sidebar over a real testnet: aggregators that answer and die, an order that a client really posts and pays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.testnet.testnet import Testnet
from tests.testnets import register_miners

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(2_400)]
PATIENCE_S = 400
POST = """
import torch, pot_lab
lab = pot_lab.connect(start=False)
net = torch.nn.Sequential(torch.nn.Linear(4, 3))
x, y = torch.rand(12, 4), torch.arange(12) % 3
order = lab.order(model=net, train=(x, y), test=(x, y), reward=25, train_for="10min", title="From a test")
print(order.id.hex() if isinstance(order.id, bytes) else order.id)
lab.close()
"""


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    net = Testnet.up("sidebar", providers=1, validators=3)
    try:
        register_miners(net)
        yield net
    finally:
        net.down()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_S * 1000)
    return playwright_expect(locator)


def test_it_shows_real_aggregators_and_a_posted_order(testnet, start_lab, open_panel, page, shots) -> None:
    panel = open_panel(start_lab())
    network = panel.get_by_test_id("pot-network")
    expect(network).to_contain_text("sidebar")
    expect(network.get_by_test_id("pot-health")).to_have_text("Works: 4 of 4 aggregators")
    posted = subprocess.run(
        [sys.executable, "-c", POST], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert posted.returncode == 0, posted.stderr
    card = panel.locator(f"[data-order='{posted.stdout.split()[-1].removeprefix('0x')}']")
    expect(card).to_contain_text("From a test")
    expect(card.get_by_test_id("pot-phase")).to_have_text("training")
    expect(card.get_by_test_id("pot-reward")).to_have_text("25 POT")
    expect(card.get_by_test_id("pot-claims")).to_have_text("0")
    expect(card.get_by_test_id("pot-countdown")).to_contain_text("min")
    page.screenshot(path=shots / "sidebar-real.png")
    os.kill(testnet.pid("aggregator-3"), signal.SIGKILL)
    expect(network.get_by_test_id("pot-health")).to_contain_text("Works with 3 of 4 aggregators")
    expect(card).to_be_visible()
    testnet.down()
    expect(panel.get_by_test_id("pot-problem")).to_be_visible()
    expect(network.get_by_test_id("pot-health")).to_contain_text("Stopped: 0 of 4 aggregators, 3 needed, since")
    expect(card).to_be_visible()  # the last view stays
    assert page.problems == []
