"""An order's card in a plain page: the view that VS Code and Colab load, with nothing of Jupyter's around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pot_lab.notebook.order_widget import STATIC
from tests.labextension.accessibility import findings
from tests.labextension.scripts import card, now_ms, void_card

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(2_400)]
PATIENCE_MS = 400_000
SITE = "http://localhost"
# What anywidget does with the module, and no more: a model with get, on and off.
PAGE = """<!doctype html><html lang="en"><head><title>A page</title><link rel="stylesheet" href="/order-view.css"></head>
<body style="background: Canvas"><main id="here"></main><script type="module">
import view from "/order-view.js";
const heard = new Map();
window.model = {
  state: {},
  get: name => window.model.state[name],
  on: (event, callback) => heard.set(event, callback),
  off: event => heard.delete(event),
};
window.say = state => {
  Object.assign(window.model.state, state);
  Object.keys(state).forEach(name => heard.get(`change:${name}`)?.());
};
window.heard = heard;
window.show = state => { window.say(state); window.end = view.render({ model: window.model, el: document.querySelector("#here") }); };
</script></body></html>"""


def expect(locator: Any) -> Any:
    from playwright.sync_api import expect as playwright_expect

    playwright_expect.set_options(timeout=PATIENCE_MS)
    return playwright_expect(locator)


@pytest.fixture
def view(page: Any) -> Any:
    """The page with the view's module loaded; all that is asked for beside its own files is a problem."""
    if not (STATIC / "order-view.js").is_file():
        pytest.skip("the front end was not built here; `make install` builds it where npm is")

    def answer(route: Any) -> None:
        name = route.request.url.removeprefix(f"{SITE}/")
        kinds = {"order-view.js": "text/javascript", "order-view.css": "text/css"}
        if not name:
            route.fulfill(content_type="text/html", body=PAGE)
        elif name in kinds:
            route.fulfill(content_type=kinds[name], body=(STATIC / name).read_text())
        else:
            page.problems.append(f"asked for {route.request.url}")
            route.abort()

    page.on("console", lambda said: page.problems.append(said.text) if said.type == "error" else None)
    page.route(lambda url: "favicon" not in url, answer)
    page.goto(f"{SITE}/")
    page.wait_for_function("() => window.show !== undefined")
    return page.locator("#here")


def test_it_counts_down_by_itself_and_follows_the_kernel(view: Any, page: Any, shots: Path) -> None:
    one = card(closes_ms=now_ms() + 90_500)
    page.evaluate("state => window.show(state)", {"card": one, "now_ms": now_ms(), "problem": "", "is_mine": True})
    expect(view.get_by_test_id("pot-phase")).to_have_text("training")
    expect(view.get_by_test_id("pot-origin")).to_contain_text("yours")
    expect(view.locator("canvas")).to_be_visible()
    before = view.get_by_test_id("pot-countdown").inner_text()
    expect(view.get_by_test_id("pot-countdown")).not_to_have_text(before)
    page.evaluate("state => window.say(state)", {"problem": "too few <b>aggregators</b> answered"})
    expect(view.get_by_test_id("pot-note")).to_have_text("Not connected: too few <b>aggregators</b> answered")
    page.evaluate("state => window.say(state)", {"problem": "", "card": one | {"claims": 41}})
    expect(view.get_by_test_id("pot-claims")).to_have_text("41")
    expect(view.get_by_test_id("pot-note")).to_have_count(0)
    page.screenshot(path=shots / "order-view.png")
    page.evaluate("() => window.end()")
    expect(view.locator("*")).to_have_count(0)
    assert page.evaluate("() => window.heard.size") == 0  # nothing goes on behind a view that is closed
    assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_void_order_is_explained_in_both_schemes(view: Any, page: Any, shots: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.add_style_tag(content=":root { color-scheme: light dark; }")
    page.evaluate("state => window.show(state)", {"card": void_card(), "now_ms": now_ms(), "problem": ""})
    expect(view.get_by_test_id("pot-void")).to_contain_text("Best: 36 of 360; to beat: 37 of 360")
    expect(view.get_by_test_id("pot-countdown")).to_have_count(0)
    page.screenshot(path=shots / f"order-view-{scheme}.png")
    assert findings(page, "#here") == []
    assert page.problems == []


def test_what_is_no_order_is_refused_in_words(view: Any, page: Any) -> None:
    page.evaluate("state => window.show(state)", {"card": {"id": "<img src=x>"}, "now_ms": now_ms(), "problem": ""})
    expect(view).to_contain_text("not an order that this version of PoT Lab can show")
    page.evaluate("state => window.say(state)", {"card": card()})  # a kernel that begins again may send a good one
    expect(view.get_by_test_id("pot-phase")).to_have_text("training")
    assert page.problems == []
