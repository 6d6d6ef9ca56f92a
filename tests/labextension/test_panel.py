"""The panel over a real testnet: an order by the form, money, a miner and a job that are started, stopped, begun again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pot_lab.jobs.runner import JobRunner
from pot_lab.testnet.testnet import Testnet
from tests.labextension.accessibility import findings
from tests.testnets import register_miners

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000


@pytest.fixture
def testnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Testnet]:
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("POT_LAB_NETWORK", raising=False)
    net = Testnet.up("panel", providers=2, validators=3, verifiers=0, durability="flush")
    register_miners(net)
    yield net
    net.down()


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


def job_that_waits(home: Path, folder: Path) -> Any:
    cells = [
        {"cell_type": "code", "metadata": {}, "source": "print('what a job printed')", "outputs": [], "id": "a"},
        {"cell_type": "code", "metadata": {}, "source": "import time; time.sleep(100_000)", "outputs": [], "id": "b"},
    ]
    path = folder / "waits.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    return JobRunner(home).start(path, {}, kind="waiting", job_id="a-waiting-job")


def test_an_order_money_a_miner_and_a_job(testnet, start_lab, open_panel, page, shots, tmp_path) -> None:
    home = tmp_path / "home"
    panel = open_panel(start_lab())
    expect(panel.get_by_test_id("pot-health")).to_have_text("Works: 4 of 4 aggregators")

    # a miner from the stock notebook's parameters: without one the form would not let anybody order
    jobs, miners = panel.get_by_test_id("pot-jobs"), panel.get_by_test_id("pot-miners")
    miners.get_by_role("button", name="Start a miner…").click()
    form = panel.get_by_test_id("pot-miner-form")
    form.get_by_label("learning_rate").fill("fast")
    form.get_by_role("button", name="Start", exact=True).click()
    expect(form.get_by_role("alert")).to_contain_text("a number is wanted")
    form.get_by_label("learning_rate").fill("0.01")
    page.screenshot(path=shots / "panel-miner-form.png")
    form.get_by_role("button", name="Start", exact=True).click()
    miner = miners.locator("[data-miner]")
    expect(miner.get_by_test_id("pot-state")).to_have_text("running")

    # the order: what is wrong is said beside its field, and nothing is paid before the cost was seen
    panel.get_by_role("button", name="New order…").click()
    form = panel.get_by_test_id("pot-form")
    form.get_by_label("What to train").select_option("wine")
    form.get_by_label("Title").fill("By the form")
    form.get_by_label("Reward, in POT").fill("10")
    form.get_by_label("Training time").fill("2h")
    form.get_by_label("Score to beat").fill("90")
    form.get_by_role("button", name="Preview").click()
    expect(form.get_by_role("alert")).to_contain_text("0.9 for 90 %")
    assert form.get_by_label("Score to beat").get_attribute("aria-invalid") == "true"
    page.screenshot(path=shots / "panel-form-wrong.png")
    assert findings(page, "#pot-lab-panel") == []
    form.get_by_label("Score to beat").fill("0.9")
    for _ in range(100):  # the miner registers meanwhile
        form.get_by_role("button", name="Preview").click()
        expect(form.get_by_test_id("pot-quote")).to_be_visible()
        order = form.get_by_role("button", name="Order for 11.01 POT")
        if order.is_enabled():
            break
        form.get_by_label("Title").fill("By the form ")
        form.get_by_label("Title").fill("By the form")
        page.wait_for_timeout(500)
    expect(form.get_by_test_id("pot-refund")).to_have_text("9 POT back")  # scoring is paid in any case
    page.screenshot(path=shots / "panel-form-quote.png")
    order.click()
    tab = page.locator(".jp-MainAreaWidget .pot-Card")
    expect(tab.get_by_test_id("pot-phase")).to_have_text("training")
    expect(tab).to_contain_text("11.01 POT")
    expect(tab.get_by_test_id("pot-origin")).to_contain_text("yours")
    expect(panel.locator("[data-order]")).to_have_count(1)
    expect(tab.get_by_test_id("pot-claims")).not_to_have_text("0")  # the miner is at work
    miner.get_by_role("button", name="Log").click()
    expect(miner.get_by_role("log")).to_contain_text("event=registered")
    miner.get_by_role("button", name="Log").click()
    page.screenshot(path=shots / "panel-order-tab.png")
    assert findings(page, ".pot-Order") == []

    wallet = panel.get_by_test_id("pot-wallet")
    wallet.get_by_text("Show balance and stakes").click()
    expect(wallet.get_by_test_id("pot-balance")).to_have_text("9988.99 POT")
    wallet.get_by_role("button", name="Claim what is due").click()
    expect(wallet).to_contain_text("Nothing is due before the next settlement.")

    # stopping says that it is stopping, and ends its notebook
    expect(jobs.locator("[data-job]")).to_have_count(1)
    miner.get_by_role("button", name="Stop").click()
    expect(miner.get_by_test_id("pot-state")).to_have_text("ended")
    expect(jobs.locator("[data-job]").get_by_test_id("pot-state")).not_to_have_text("running")

    # a job that somebody else started
    waiting = job_that_waits(home, tmp_path)
    job = jobs.locator("[data-job='a-waiting-job']")
    expect(job.get_by_test_id("pot-state")).to_have_text("running")
    while not waiting.output.is_file() or "a job printed\\n" not in waiting.output.read_text():
        page.wait_for_timeout(200)
    job.get_by_role("button", name="Stop").click()
    expect(job.get_by_test_id("pot-state")).to_have_text("cancelled")
    job.get_by_role("button", name="Notebook").click()
    expect(page.locator(".pot-JobNotebook")).to_contain_text("what a job printed")
    page.screenshot(path=shots / "panel-job-notebook.png")
    standing = panel.get_by_test_id("pot-standing")
    standing.get_by_text("Standing").click()
    expect(standing.locator("[data-account]").first).to_contain_text("at stake")
    panel.get_by_test_id("pot-history").get_by_text("History").click()
    expect(panel.get_by_test_id("pot-history").locator("[data-history]")).to_contain_text("11.01 POT")
    job.get_by_role("button", name="Resume").click()
    expect(job.get_by_test_id("pot-state")).to_have_text("running")
    job.get_by_role("button", name="Stop").click()
    expect(job.get_by_test_id("pot-state")).to_have_text("cancelled")

    # the network is stopped and started from its card
    network = panel.get_by_test_id("pot-network")
    os.kill(testnet.pid("aggregator-3"), 9)
    expect(network).to_contain_text("Not running: aggregator-3")
    network.get_by_role("button", name="Stop").click()
    question = panel.get_by_test_id("pot-stop-question")  # an order is under way: it is not stopped by one slip
    expect(question).to_contain_text("1 order is open here, and it is yours")
    expect(question.get_by_role("button", name="Keep it running")).to_be_focused()
    question.scroll_into_view_if_needed()
    page.screenshot(path=shots / "panel-stop-question.png")
    assert findings(page, "#pot-lab-panel") == []
    page.keyboard.press("Enter")
    expect(question).to_have_count(0)
    assert testnet.pid("aggregator-0") > 0
    network.get_by_role("button", name="Stop").click()
    question.get_by_role("button", name="Stop all the same").click()
    expect(panel.locator("[data-order]").get_by_test_id("pot-countdown")).to_contain_text("the network is stopped")
    expect(panel.get_by_test_id("pot-connection")).to_contain_text("Connected to the server")
    network.get_by_role("button", name="Start “panel”").click()
    expect(panel.get_by_test_id("pot-health")).to_have_text("Works: 4 of 4 aggregators")
    expect(panel.locator("[data-order]")).to_have_count(1)
    assert page.problems == []
