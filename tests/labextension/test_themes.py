"""The panel in every theme, at 250 px, by the keyboard, and under axe-core."""

from __future__ import annotations

from typing import Any

import pytest

from tests.labextension.accessibility import findings
from tests.labextension.scripts import card, order, script, void_card

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000
VOID = "ef" * 32
THEMES = ("JupyterLab Light", "JupyterLab Dark", "JupyterLab Dark High Contrast")


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


def test_every_view_is_legible_in_every_theme(show_lab, open_panel, page, shots) -> None:
    lab = show_lab(script(order(), order(id=VOID, phase="ENDED", window="void"), cards=(card(), void_card(id=VOID))))
    panel = open_panel(lab)
    expect(panel.locator("[data-order]")).to_have_count(2)
    panel.get_by_text("Aggregators", exact=True).click()
    panel.get_by_role("button", name="New order…").click()
    expect(panel.get_by_label("What to train")).to_be_visible()
    panel.get_by_role("button", name="Start a miner…").click()
    expect(panel.get_by_label("learning_rate")).to_be_visible()
    for unfolded in ("pot-earnings", "pot-host"):
        panel.get_by_test_id(unfolded).locator("summary").first.click()
    expect(panel.get_by_test_id("pot-host")).to_contain_text("Processors")
    page.evaluate("id => { void window.jupyterapp.commands.execute('pot-lab:open-order', { id }) }", VOID)
    expect(page.locator(".pot-Order canvas")).to_be_visible()
    expect(page.locator(".pot-Order").get_by_test_id("pot-void")).to_be_visible()
    for theme in THEMES:
        page.evaluate("theme => { void window.jupyterapp.commands.execute('apputils:change-theme', { theme }) }", theme)
        page.wait_for_function("theme => document.body.dataset.jpThemeName === theme", arg=theme)
        page.wait_for_selector("#jupyterlab-splash", state="detached")
        page.screenshot(path=shots / f"panel-{theme.split()[-1].lower()}.png")
        assert findings(page, "#pot-lab-panel") == [], theme
        assert findings(page, ".pot-Order") == [], theme
    wide = "() => { const one = document.querySelector('#pot-lab-panel'); return one.scrollWidth - one.clientWidth; }"
    assert page.evaluate(wide) <= 0  # nothing has to be scrolled sideways


def test_the_form_is_filled_by_the_keyboard_alone(show_lab, open_panel, page) -> None:
    panel = open_panel(show_lab(script(order(), cards=(card(),))))
    button = panel.get_by_role("button", name="New order…")
    button.focus()
    page.keyboard.press("Enter")
    title = panel.get_by_label("Title", exact=True)
    expect(title).to_be_visible()
    panel.get_by_label("What to train").focus()
    page.keyboard.press("Tab")
    expect(title).to_be_focused()
    page.keyboard.type("!")
    page.keyboard.press("Tab")
    expect(panel.get_by_label("Reward, in POT")).to_be_focused()
    title_link = panel.get_by_role("button", name="Digits CNN")
    title_link.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".pot-Order .pot-Card")).to_be_visible()
