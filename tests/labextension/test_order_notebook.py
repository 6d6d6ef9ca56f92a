"""`notebooks/order.ipynb` in a real JupyterLab: its card lives while a cell runs, and when its kernel was killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pot_lab.testnet.testnet import Testnet
from tests.labextension.conftest import TOKEN
from tests.testnets import register_miners

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "order.ipynb"
PATIENCE_MS = 400_000


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    net = Testnet.up("notebook", providers=1, validators=3, verifiers=0, durability="flush")
    try:
        register_miners(net)
        yield net
    finally:
        net.down()


def test_the_orders_card_follows_the_ledger_while_a_cell_waits_and_without_its_kernel(
    testnet, start_lab, page, shots
) -> None:
    """Nobody mines here, so the order ends void: long enough to see the card change under a busy kernel."""
    lab = start_lab()
    content = json.loads(NOTEBOOK.read_text())
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if source.startswith("if wait:\n    order.wait"):
            source = "order.wait()"
        elif cell["cell_type"] == "code" and "if wait" in source:
            source = "pass"
        cell["source"] = source
    (lab.root / "work" / "order.ipynb").write_text(json.dumps(content))
    page.goto(f"{lab.url}/lab/tree/order.ipynb?token={TOKEN}")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady === true", timeout=PATIENCE_MS)
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
    card = page.locator(".jp-OutputArea-output:has-text('digits CNN')").first
    card.wait_for(timeout=PATIENCE_MS)
    page.wait_for_function(
        """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => p.textContent === '[*]:')""",
        timeout=PATIENCE_MS,
    )
    card.locator("[data-testid=pot-phase]:has-text('training')").wait_for(timeout=PATIENCE_MS)
    card.locator("[data-testid=pot-origin]:has-text('yours')").wait_for(timeout=PATIENCE_MS)
    card.scroll_into_view_if_needed()
    page.screenshot(path=shots / "order-notebook.png")
    kernel = page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.id")
    connection = lab.root / "runtime" / f"kernel-{kernel}.json"
    (process,) = [one for one in psutil.process_iter(["cmdline"]) if str(connection) in (one.info["cmdline"] or [])]
    process.kill()  # the cell that waits ends with its kernel, and the card goes on
    card.locator("[data-testid=pot-void]:has-text('no claims')").wait_for(timeout=PATIENCE_MS)
    card.locator("[data-testid=pot-void]:has-text('come back with the settlement')").wait_for(timeout=PATIENCE_MS)
    page.screenshot(path=shots / "order-notebook-void.png")
