"""The order's card as a widget, for notebooks without the JupyterLab extension (VS Code, Colab, Notebook): the
component that the extension shows, in one ES module without anything to load, kept new by the kernel.

It is an anywidget. Its module, `static/order-view.js`, is built from `labextension/src/view.tsx` with the front end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

STATIC = Path(__file__).with_name("static")
# Where the front end was left out (`POT_LAB_SKIP_LABEXTENSION`) the still picture is shown, and drawn again with news.
_STILL_ESM = """
export default {
  render({ model, el }) {
    const draw = () => { el.innerHTML = model.get("still_html"); };
    model.on("change:still_html", draw);
    draw();
    return () => model.off("change:still_html", draw);
  },
};
"""


class OrderWidget(anywidget.AnyWidget):
    """An order's card that counts down by itself, also while a cell runs.

    Attributes:
        card: the order, as `pot_lab.cards.order_card.order_card` gives it.
        now_ms: the network's time when `card` was sent (Unix milliseconds), for the countdown.
        problem: why the card may be old; "" where it is not.
        is_mine: whether this notebook's account posted the order.
        still_html: a still picture, for whoever opens the notebook without a kernel; escaped.
        still_text: the same as text.
    """

    _esm = STATIC / "order-view.js" if (STATIC / "order-view.js").is_file() else _STILL_ESM
    _css = STATIC / "order-view.css" if (STATIC / "order-view.css").is_file() else ""
    card = traitlets.Dict().tag(sync=True)
    now_ms = traitlets.Int().tag(sync=True)
    problem = traitlets.Unicode().tag(sync=True)
    is_mine = traitlets.Bool().tag(sync=True)
    still_html = traitlets.Unicode().tag(sync=True)
    still_text = traitlets.Unicode()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle, *metadata = super()._repr_mimebundle_(**kwargs) or ({},)
        return ({**bundle, "text/html": self.still_html, "text/plain": self.still_text}, *metadata)
