"""The sidebar in a real JupyterLab in a real browser: what a researcher sees, with the mouse and without it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.labextension.scripts import order, script

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


ENDED = order(
    id="cd" * 32,
    title="An order with quite a long title that does not fit",
    phase="ENDED",
    window="settled",
    closes_ms=0,
    claims=3,
    leader="0x" + "22" * 20,
    leader_score={"total": "355", "count": 360},
    ended_ms=1,
)


def test_it_shows_the_network_and_follows_an_order_to_its_end(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script(order(), ENDED))
    panel = open_panel(lab)
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    network = panel.get_by_test_id("pot-network")
    expect(network).to_contain_text("my-testnet")
    expect(network.get_by_test_id("pot-health")).to_have_text("Works: 4 of 4 aggregators")
    network.get_by_text("Aggregators", exact=True).click()
    expect(network.get_by_test_id("pot-reachable")).to_have_text("4 of 4")
    expect(network.get_by_text("aggregator 0, primary, at height 41")).to_be_attached()
    live = panel.locator(f"[data-order='{'ab' * 32}']")
    expect(live.get_by_test_id("pot-phase")).to_have_text("training")
    expect(live.get_by_test_id("pot-reward")).to_have_text("25.5 POT")
    expect(live.get_by_test_id("pot-claims")).to_have_text("2")
    ended = panel.locator(f"[data-order='{'cd' * 32}']")
    expect(ended.get_by_test_id("pot-phase")).to_have_text("settled")
    expect(ended.get_by_test_id("pot-score")).to_have_text("98.61 % (355/360)")
    expect(ended.get_by_test_id("pot-leader")).to_have_text("0x2222…2222")
    expect(ended.get_by_test_id("pot-countdown")).to_have_count(0)
    first = live.get_by_test_id("pot-countdown").inner_text()
    expect(live.get_by_test_id("pot-countdown")).not_to_have_text(first)  # it ticks by itself
    page.screenshot(path=shots / "sidebar-light.png")

    lab.show(script(order(phase="VALIDATION", window="open_scores", claims=3), ENDED, up=3))
    expect(live.get_by_test_id("pot-phase")).to_have_text("validation")
    expect(live.get_by_test_id("pot-window")).to_have_text("Open scores")
    expect(live.get_by_test_id("pot-claims")).to_have_text("3")
    expect(network.get_by_test_id("pot-health")).to_have_text(
        "Works with 3 of 4 aggregators; it stops if one more fails"
    )
    expect(network.get_by_text("aggregator 3, unreachable")).to_be_attached()

    page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_selector("#jupyterlab-splash", state="detached")
    dark = "() => getComputedStyle(document.querySelector('.pot-Card')).backgroundColor"
    page.wait_for_function(f"() => ({dark})().match(/\\d+/g).slice(0, 3).every(part => Number(part) < 80)")
    page.screenshot(path=shots / "sidebar-dark.png")

    lab.show(script(order(phase="ENDED", window="void", void_reason="no improvement", closes_ms=0)))
    expect(live.get_by_test_id("pot-phase")).to_have_text("void")
    expect(live).to_contain_text("no improvement")
    expect(ended).to_have_count(0)
    assert page.problems == []


def test_it_says_when_the_server_is_gone_and_comes_back_by_itself(start_lab, open_panel, page, shots) -> None:
    lab = start_lab(script(order()))
    panel = open_panel(lab)
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    lab.stop()
    expect(panel.get_by_test_id("pot-connection")).to_contain_text("Connection lost, showing the last state")
    expect(panel.get_by_test_id("pot-network")).to_contain_text("my-testnet")
    expect(panel.get_by_role("button", name="Retry")).to_be_visible()
    page.screenshot(path=shots / "sidebar-stale.png")
    lab.show(script(order(claims=9)))
    lab.start()
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    expect(panel.get_by_test_id("pot-claims")).to_have_text("9")


def test_without_a_network_it_says_how_to_start_one(start_lab, open_panel, page, shots) -> None:
    panel = open_panel(start_lab())
    expect(panel.get_by_test_id("pot-problem")).to_contain_text("pot-lab testnet up")
    expect(panel.get_by_test_id("pot-health")).to_have_text("No network on this host")
    expect(panel.get_by_test_id("pot-connection")).to_contain_text("Connected to the server")
    expect(panel.get_by_test_id("pot-orders")).to_contain_text("No orders yet")
    page.screenshot(path=shots / "sidebar-empty.png")
    assert page.problems == []


def test_it_can_be_found_without_the_mouse_and_loads_nothing_from_elsewhere(show_lab, open_panel, page) -> None:
    lab = show_lab(script(order()))
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]) if "://" in request.url else None)
    panel = open_panel(lab)
    expect(page.get_by_role("region", name="PoT Lab")).to_be_visible()
    expect(page.get_by_role("tab", name="PoT Lab: network and orders")).to_be_visible()
    expect(panel.get_by_role("heading", name="Network")).to_be_visible()
    expect(panel.get_by_role("article", name="Digits CNN, training")).to_be_visible()
    panel.get_by_text("Aggregators", exact=True).click()
    expect(panel.get_by_role("list", name="Aggregators")).to_be_visible()
    expect(page.locator(".jp-LauncherCard").first).to_be_visible()  # it takes the focus, which closes the palette
    page.evaluate("() => window.jupyterapp.commands.execute('apputils:activate-command-palette')")
    page.locator(".lm-CommandPalette-input:visible").fill("Show Network and Orders")
    expect(page.locator(".lm-CommandPalette-item", has_text="Show Network and Orders")).to_be_visible()
    assert {host for host in hosts if host} <= {f"127.0.0.1:{lab.port}"}


def test_ended_orders_can_be_hidden(show_lab, open_panel, page) -> None:
    lab = show_lab(script(order(), ENDED))
    panel = open_panel(lab)
    ended = panel.locator(f"[data-order='{'cd' * 32}']")
    expect(ended).to_be_visible()
    save = """async value => { await window.jupyterapp.serviceManager.settings.save(
        'pot-lab:plugin', JSON.stringify({ showEnded: value })); }"""
    page.evaluate(save, False)
    open_panel(lab)
    expect(panel.locator(f"[data-order='{'ab' * 32}']")).to_be_visible()
    expect(ended).to_have_count(0)
    page.evaluate(save, True)


def test_a_stopped_network_is_never_called_live(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script(order(), up=4))
    panel = open_panel(lab)
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    lab.show(script(order(), up=2))
    expect(panel.get_by_test_id("pot-health")).to_have_text(
        re.compile(r"^Stopped: 2 of 4 aggregators, 3 needed, since \d\d:\d\d$")
    )
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Connected to the server")
    expect(page.locator(".pot-Status")).to_have_text("PoT: Stopped")
    page.screenshot(path=shots / "sidebar-stopped.png")
    lab.show(script(order(), up=3))
    expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    expect(page.locator(".pot-Status")).to_have_text("PoT: 1 live order")


def test_orders_are_searched_and_filtered(show_lab, open_panel, page) -> None:
    others = order(id="ef" * 32, title="Another's", client="0x" + "33" * 20)
    many = [order(id=f"{number:064x}", title=f"Number {number}", client="0x" + "33" * 20) for number in range(30)]
    panel = open_panel(show_lab(script(order(), ENDED, others, *many)))
    cards = panel.locator("[data-order]")
    expect(cards).to_have_count(20)
    expect(panel.locator(f"[data-order='{'ab' * 32}']").get_by_test_id("pot-origin")).to_contain_text("yours")
    panel.get_by_role("button", name="Show more (13)").click()
    expect(cards).to_have_count(33)
    panel.get_by_role("searchbox", name="Search orders").fill("another")
    expect(cards).to_have_count(1)
    expect(cards).to_contain_text("by 0x3333…3333")
    panel.get_by_role("searchbox", name="Search orders").fill("no such thing")
    expect(panel.get_by_test_id("pot-orders")).to_contain_text("None of 33 orders is like that.")
    panel.get_by_role("searchbox", name="Search orders").fill("")
    panel.get_by_label("Which orders").select_option("mine")
    expect(cards).to_have_count(2)
    panel.get_by_label("Which orders").select_option("ended")
    expect(cards).to_have_count(1)
