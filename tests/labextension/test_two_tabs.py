"""Two tabs of one browser on one JupyterLab, which a hub serves under a base URL of its user's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.labextension.scripts import card, order, script

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000
BASE = "/user/ada%20l/"


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


def test_both_follow_the_ledger_and_one_that_is_closed_takes_nothing_along(start_lab, open_panel, page, shots) -> None:
    lab = start_lab(script(order(), cards=(card(),)), base=BASE)
    other = page.context.new_page()
    asked: dict[str, list[str]] = {"one": [], "other": []}
    for name, tab in (("one", page), ("other", other)):
        tab.on("request", lambda request, name=name: asked[name].append(request.url))
        tab.on("websocket", lambda socket, name=name: asked[name].append(socket.url))
    one_panel, other_panel = open_panel(lab), open_panel(lab, other, "other")
    for panel in (one_panel, other_panel):
        expect(panel.get_by_test_id("pot-connection")).to_have_text("Live")
    other.evaluate(
        "id => { void window.jupyterapp.commands.execute('pot-lab:open-order', { id }) }", order()["id"]
    )  # a tab of its own in one of them
    followed = other.locator(".jp-MainAreaWidget .pot-Card")
    expect(followed.get_by_test_id("pot-claims")).to_have_text("2")

    lab.show(script(order(claims=5), cards=(card(claims=5),)))
    page.bring_to_front()
    expect(one_panel.get_by_test_id("pot-claims")).to_have_text("5")
    other.bring_to_front()
    expect(followed.get_by_test_id("pot-claims")).to_have_text("5")
    page.screenshot(path=shots / "two-tabs.png")

    other.close()
    lab.show(script(order(claims=6), cards=(card(claims=6),)))
    page.bring_to_front()
    expect(one_panel.get_by_test_id("pot-claims")).to_have_text("6")
    for name, urls in asked.items():
        ours = [url for url in urls if "/pot-lab/" in url]
        assert any(url.startswith("ws") for url in ours), name
        assert all(f"127.0.0.1:{lab.port}{BASE}" in url for url in ours), ours
    assert page.problems == []
