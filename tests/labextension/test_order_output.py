"""An order in a notebook's output: it follows the ledger by itself, whatever becomes of the kernel that printed it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pot_lab.cards.order_card import MIME
from tests.labextension.conftest import TOKEN, Lab
from tests.labextension.scripts import OTHER, card, order, script, void_card

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000
KERNEL = "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


def write_notebook(lab: Lab, name: str, *outputs: dict[str, Any]) -> None:
    """A notebook as it was saved: cells with these outputs, and one that would keep its kernel busy for long."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": 1,
            "id": f"cell{number}",
            "metadata": {},
            "source": "order",
            "outputs": [
                {
                    "output_type": "execute_result",
                    "execution_count": 1,
                    "metadata": {},
                    "data": {MIME: data, "text/html": "<p>a still picture</p>", "text/plain": "Order(ab)"},
                }
            ],
        }
        for number, data in enumerate(outputs)
    ]
    busy = {"cell_type": "code", "execution_count": None, "id": "busy", "metadata": {}, "outputs": []}
    cells.append({**busy, "source": "import time; time.sleep(100_000)"})
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    content = {"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": cells}
    (lab.root / "work" / name).write_text(json.dumps(content))


def open_notebook(page: Any, lab: Lab, name: str) -> None:
    page.goto(f"{lab.url}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady === true", timeout=PATIENCE_MS)
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def test_it_follows_the_ledger_with_the_kernel_busy_dead_restarted_and_after_it_was_opened_again(
    show_lab, page, shots
) -> None:
    lab = show_lab(script(order(), cards=(card(claims=3),)))
    write_notebook(lab, "saved.ipynb", card(claims=0, read_ms=1))
    open_notebook(page, lab, "saved.ipynb")
    shown = page.locator(".jp-OutputArea-output .pot-Card")
    claims = shown.get_by_test_id("pot-claims")
    expect(claims).to_have_text("3")  # not what was saved, and no cell was run
    expect(page.get_by_text("a still picture")).to_have_count(0)

    page.wait_for_function(f"() => {KERNEL.replace('session.', 'session?.')}?.status === 'idle'")
    page.evaluate(
        """() => { const panel = window.jupyterapp.shell.currentWidget;
            panel.content.activeCellIndex = panel.content.widgets.length - 1;
            window.jupyterapp.commands.execute('notebook:run-cell'); }"""
    )
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[*]:")
    lab.show(script(order(), cards=(card(claims=4),)))
    expect(claims).to_have_text("4")
    assert page.problems == []
    # from here on Lab itself reports requests that the kernel's end leaves without an answer
    page.evaluate(f"() => {{ {KERNEL}.restart().catch(() => undefined); }}")
    lab.show(script(order(), cards=(card(claims=5),)))
    expect(claims).to_have_text("5")
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.sessionContext.shutdown().catch(() => undefined); }")
    lab.show(script(order(), cards=(card(claims=6, phase="VALIDATION", window="score"),)))
    expect(claims).to_have_text("6")
    expect(shown.get_by_test_id("pot-phase")).to_have_text("validation")
    page.screenshot(path=shots / "order-output.png")

    page.problems.clear()
    open_notebook(page, lab, "saved.ipynb")
    expect(claims).to_have_text("6")
    lab.show(script(order(), cards=(void_card(),)))
    expect(shown.get_by_test_id("pot-void")).to_contain_text("Best: 36 of 360; to beat: 37 of 360.")
    expect(shown.get_by_test_id("pot-void")).to_contain_text("27.3 POT come back with the settlement")
    page.screenshot(path=shots / "order-output-void.png")
    assert page.problems == []


def test_an_order_that_the_followed_network_has_not_is_shown_as_it_was(show_lab, page) -> None:
    lab = show_lab(script())
    # an id of its own: the page may still be told of the one that the test before ended with
    write_notebook(lab, "elsewhere.ipynb", card(claims=8, id="cd" * 32))
    open_notebook(page, lab, "elsewhere.ipynb")
    shown = page.locator(".jp-OutputArea-output .pot-Card")
    expect(shown.get_by_test_id("pot-claims")).to_have_text("8")
    expect(shown.get_by_test_id("pot-note")).to_contain_text("the network that is followed here has no such order")


def test_outputs_that_somebody_made_up_do_no_harm(show_lab, page) -> None:
    lab = show_lab(script())
    evil = [
        {"id": "<img src=x onerror=alert(1)>"},
        card(title={"dangerouslySetInnerHTML": {"__html": "<b>bold</b>"}}),
        card(leaders=[{"provider": {"$$typeof": 1}}]),
        card(reward_grains="1e9"),
        card(race=[[0, 1, {"$$typeof": 1}]]),
        card(title="<script>window.stolen = 1</script>", id="ee" * 32),
    ]
    write_notebook(lab, "evil.ipynb", *evil)
    open_notebook(page, lab, "evil.ipynb")
    expect(page.get_by_text("not an order that this version of PoT Lab can show")).to_have_count(5)
    expect(page.locator(".jp-OutputArea-output .pot-Title")).to_have_text("<script>window.stolen = 1</script>")
    assert page.evaluate("() => window.stolen") is None
    assert page.problems == []


def test_one_websocket_serves_a_tab_and_rests_when_nothing_is_seen(show_lab, page) -> None:
    """Of one's own orders none runs here: while one does, Lab waits for its end to tell of it."""
    lab = show_lab(script(order(client=OTHER), cards=(card(client=OTHER),)))
    write_notebook(lab, "two.ipynb", card(client=OTHER), card(client=OTHER))
    sockets: list[Any] = []
    page.on("websocket", lambda one: sockets.append(one) if "pot-lab/stream" in one.url else None)
    open_notebook(page, lab, "two.ipynb")
    page.evaluate("() => { void window.jupyterapp.commands.execute('pot-lab:open') }")
    expect(page.locator("#pot-lab-panel [data-order]")).to_have_count(1)
    expect(page.locator(".jp-OutputArea-output .pot-Card")).to_have_count(2)
    assert len(sockets) == 1
    page.evaluate("() => { void window.jupyterapp.commands.execute('filebrowser:activate') }")
    page.evaluate("() => { void window.jupyterapp.commands.execute('launcher:create') }")
    expect(page.locator(".jp-OutputArea-output .pot-Card").first).not_to_be_visible()
    if not sockets[0].is_closed():
        sockets[0].wait_for_event("close")
    page.evaluate("() => { void window.jupyterapp.commands.execute('pot-lab:open') }")
    expect(page.locator("#pot-lab-panel").get_by_test_id("pot-connection")).to_have_text("Live")
    assert len(sockets) == 2
