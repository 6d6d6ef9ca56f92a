"""Jobs, earnings, notifications and the launcher in a real JupyterLab, over a ledger that the tests write."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pot_lab.jobs.earnings_book import EarningsBook, Entry
from pot_lab.jobs.registry import JobEventLog, write_json
from tests.labextension.accessibility import findings
from tests.labextension.conftest import TOKEN, Lab
from tests.labextension.scripts import OTHER, card, order, script, void_card

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000


@pytest.fixture(autouse=True, scope="module")
def own_home() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("POT_LAB_HOME", raising=False)
        yield


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


def make_job(lab: Lab, name: str, created_ms: int = 5) -> Path:
    folder = lab.root / "pot-lab" / "jobs" / name
    folder.mkdir(parents=True)
    spec = {"kind": "provider", "parameters": {"workspace": f"/x/{'ab' * 12}", "seed": 7}, "created_ms": created_ms}
    write_json(folder / "job.json", spec)
    (folder / "log.txt").write_text("what it printed\n")
    log = JobEventLog(folder / "events.jsonl")
    for step in range(60):
        log.emit("progress", data={"step": 10 * step, "total": None, "loss": 2 / (1 + step), "accuracy": step / 60})
    write_json(folder / "state.json", {"state": "done", "ended_ms": 9})
    return folder


def test_a_job_has_a_tab_with_its_curves_and_old_jobs_are_removed(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script(order(client=OTHER)))
    folder = make_job(lab, "a-job")
    panel = open_panel(lab)
    jobs = panel.get_by_test_id("pot-jobs")
    expect(jobs.locator("[data-job]")).to_contain_text("Digits CNN")  # the order that it works on
    jobs.locator("[data-job] .pot-Title").click()
    tab = page.locator(".pot-JobTab")
    expect(tab.locator("canvas")).to_be_visible()
    expect(tab.get_by_role("img")).to_have_attribute(
        "aria-label", "Course of job a-job. loss: 0.03333; accuracy: 0.9833"
    )
    tab.get_by_text("Figures").click()
    expect(tab.locator("tbody tr")).to_have_count(12)
    expect(tab.get_by_role("log")).to_contain_text("what it printed")
    page.screenshot(path=shots / "job-tab.png")
    assert findings(page, ".pot-JobTab") == []

    page.goto(f"{lab.url}/lab?token={TOKEN}")  # not anew: what was open comes back
    expect(tab.locator("canvas")).to_be_visible()

    os.utime(folder / "state.json", (1, 1))
    jobs.get_by_role("button", name="Remove old jobs…").click()
    form = panel.get_by_test_id("pot-prune")
    form.get_by_label("Keep jobs of the last days").fill("many")
    expect(form).to_contain_text("A number of days")
    form.get_by_label("Keep jobs of the last days").fill("7")
    form.get_by_role("button", name="Look what that is").click()
    expect(form).to_contain_text("Would remove 1 jobs and 0 orders")
    assert findings(page, "#pot-lab-panel") == []
    form.get_by_role("button", name="Remove them").click()
    expect(panel).to_contain_text("No notebook has run here as a job.")
    assert not folder.exists()
    assert page.problems == []


def test_earnings_are_shown_after_electricity(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script(order(client=OTHER)))
    book = EarningsBook(lab.root / "pot-lab" / "work" / "provider-5a68cd31-b11ca2a39943")
    now_ms = time.time_ns() // 1_000_000
    for grains in (20_000_000_000, 0):
        entry = Entry(ended_ms=now_ms, order_id="ab" * 32, outcome="won", grains=grains, worked_s=1_800)
        book.append(entry)
    panel = open_panel(lab)
    page.evaluate(
        """async value => { await window.jupyterapp.serviceManager.settings.save('pot-lab:plugin', value); }""",
        json.dumps({"watts": 500, "kwhPrice": 0.3, "potPrice": 0.1, "currency": "EUR"}),
    )
    panel = open_panel(lab)
    earnings = panel.get_by_test_id("pot-earnings")
    earnings.get_by_text("Earnings").click()
    expect(earnings.get_by_test_id("pot-earned")).to_have_text("20 POT")
    expect(earnings.get_by_test_id("pot-per-hour")).to_have_text("20.00 POT")
    expect(earnings.get_by_test_id("pot-energy")).to_have_text("0.50 kWh, 0.15 EUR")
    expect(earnings.get_by_test_id("pot-after-energy")).to_have_text("1.85 EUR, 1.85 an hour")
    earnings.get_by_text("By order").click()
    expect(earnings.locator("li").first).to_contain_text("Digits CNN")
    earnings.scroll_into_view_if_needed()
    page.screenshot(path=shots / "panel-earnings.png")
    assert findings(page, "#pot-lab-panel") == []
    assert page.problems == []


def test_one_is_told_of_a_model_though_nothing_shows_the_order(show_lab, open_panel, page, shots) -> None:
    own = order(id="0c" * 32, title="Told of")
    lab = show_lab(script(own))
    sockets: list[Any] = []
    page.on("websocket", lambda one: sockets.append(one) if "pot-lab/stream" in one.url else None)
    panel = open_panel(lab)
    expect(panel.locator("[data-order]")).to_have_count(1)
    page.evaluate("() => { void window.jupyterapp.commands.execute('filebrowser:activate') }")
    expect(panel).not_to_be_visible()
    page.wait_for_timeout(3_000)  # longer than the stream stays open for nothing
    assert not sockets[0].is_closed()
    score = {"total": "355", "count": 360}
    lab.show(script(order(id="0c" * 32, title="Told of", phase="FINALIZATION", window="finalization", leader_score=score)))
    told = page.locator(".Toastify__toast", has_text="“Told of” has a model: Accuracy 98.61 %")
    expect(told).to_be_visible()
    page.screenshot(path=shots / "notification.png")
    if not sockets[0].is_closed():  # and now nothing is awaited
        sockets[0].wait_for_event("close")
    told.get_by_role("button", name="Show").click()
    expect(page.get_by_role("tab", name="Order 0c0c0c…0c0c")).to_be_visible()
    assert page.problems == []


def test_the_launcher_opens_a_form_and_a_copy_of_the_tour(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script())
    panel = open_panel(lab)
    section = page.locator(".jp-Launcher-section", has=page.get_by_role("heading", name="PoT Lab"))
    expect(section.locator(".jp-LauncherCard")).to_have_count(5)
    page.screenshot(path=shots / "launcher.png")
    section.get_by_text("New Order").click()
    form = panel.get_by_test_id("pot-form")
    form.get_by_label("What to train").select_option("letters")
    expect(form).to_contain_text("millionths of a nat")
    section.get_by_text("Tour: the Whole Cycle").click()
    page.wait_for_function("window.jupyterapp.shell.currentWidget?.context?.path === 'tour.ipynb'", timeout=PATIENCE_MS)
    assert (lab.root / "work" / "tour.ipynb").is_file()


def test_an_order_without_a_model_is_ordered_again_from_its_card(show_lab, open_panel, page) -> None:
    ours = {"title": "Kinds of wine", "reward_grains": "12000000000", "train_ms": 45_000}
    other_id = "0d" * 32
    lab = show_lab(
        script(
            order(phase="ENDED", window="void", **{k: v for k, v in ours.items() if k != "train_ms"}),
            order(id=other_id, phase="ENDED", window="void"),
            cards=(void_card(**ours), void_card(id=other_id)),
        )
    )
    panel = open_panel(lab)
    form = panel.get_by_test_id("pot-form")
    page.evaluate("id => { void window.jupyterapp.commands.execute('pot-lab:open-order', { id }) }", "ab" * 32)
    page.locator(".pot-Order").get_by_role("button", name="Order again…").click()
    expect(form.get_by_label("What to train")).to_have_value("wine")
    expect(form.get_by_label("Reward, in POT")).to_have_value("12")
    expect(form.get_by_label("Training time")).to_have_value("45s")
    form.get_by_role("button", name="Cancel").click()
    page.evaluate("id => { void window.jupyterapp.commands.execute('pot-lab:open-order', { id }) }", other_id)
    page.locator(".pot-Order:visible").get_by_role("button", name="Order again…").click()
    expect(form.get_by_role("button", name="Insert this cell")).to_be_visible()


def test_hundreds_of_orders_and_jobs_and_thousands_of_claims_are_shown(show_lab, open_panel, page) -> None:
    many = [order(id=f"{number:064x}", title=f"Number {number}", client=OTHER) for number in range(500)]
    race = [[1_000 * claim, claim, claim / 10_000] for claim in range(0, 10_000, 100)]
    lab = show_lab(script(*many, cards=(card(id=f"{0:064x}", claims=10_000, race=race),)))
    for number in range(100):
        make_job(lab, f"job-{number}", created_ms=number)
    panel = open_panel(lab)
    expect(panel.get_by_role("button", name="Show more (480)")).to_be_visible()
    expect(panel.get_by_role("button", name="Show more (90)")).to_be_visible()
    page.evaluate("id => { void window.jupyterapp.commands.execute('pot-lab:open-order', { id }) }", f"{0:064x}")
    expect(page.locator(".pot-Order canvas")).to_be_visible()
    expect(page.locator(".pot-Order").get_by_test_id("pot-claims")).to_have_text("10000")
    panel.get_by_role("searchbox", name="Search orders").fill("Number 499")
    expect(panel.locator("[data-order]")).to_have_count(1)
    panel.get_by_role("searchbox", name="Search orders").fill("ee" * 32)
    panel.get_by_role("button", name="Open order eeeeeeeeeeee…").click()
    expect(page.get_by_role("tab", name="Order eeeeee…eeee")).to_be_visible()
    assert page.problems == []
