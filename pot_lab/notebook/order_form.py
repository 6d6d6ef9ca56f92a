"""A form in a notebook by which an order is priced and posted; plain ipywidgets, which every notebook has."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from pot_lab.errors import PotLabError
from pot_lab.notebook.error_cards import what_to_do
from pot_lab.protocol.parameters import SCORE_FUNCTIONS

if TYPE_CHECKING:
    from pot_lab.notebook.order import Order
    from pot_lab.notebook.quoting import Quote

_FIELDS = ("title", "reward", "train_for", "score", "baseline")
_HINTS = {
    "title": "what others see",
    "reward": "in POT, e.g. 25",
    "train_for": "e.g. 10min or 1h 30min",
    "score": "e.g. accuracy",
    "baseline": "empty: that of the given model",
}


class OrderFormWidget:
    """The form: fields, *Preview*, *Order*, and below them what an order would cost, or the card of the one posted.

    Nothing is paid before what it costs was seen: *Order* can be pressed only while the fields are as they were
    previewed. `Lab.order_form` makes one.

    Args:
        quote: prices the terms; `Lab.quote` with model and data.
        order: posts the order; `Lab.order` with model and data.
        terms: what the fields begin with, and arguments of `Lab.order` that have no field.

    Attributes:
        widget: what a notebook shows.
        posted: the orders that this form posted, oldest first.
    """

    def __init__(self, quote: Callable[..., Quote], order: Callable[..., Order], terms: dict[str, Any]) -> None:
        self._quote, self._order = quote, order
        self._fixed = {name: value for name, value in terms.items() if name not in _FIELDS}
        self.posted: list[Order] = []
        self._previewed: dict[str, Any] | None = None  # the terms whose cost was seen, until they change or are posted
        self.fields = {name: self._field(name, terms.get(name)) for name in _FIELDS}
        self.preview_button = ipywidgets.Button(description="Preview", tooltip="What it costs; nothing is sent or paid")
        self.order_button = ipywidgets.Button(description="Order", button_style="primary", disabled=True)
        self.told = ipywidgets.HTML()
        self._below = ipywidgets.VBox([self.told])
        self.preview_button.on_click(lambda _: self._tell(self._preview))
        self.order_button.on_click(lambda _: self._on_order())
        buttons = ipywidgets.HBox([self.preview_button, self.order_button])
        self.widget: Any = ipywidgets.VBox([*self.fields.values(), buttons, self._below])

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def _field(self, name: str, given: object) -> Any:
        shown = {
            "value": "" if given is None else str(given),
            "placeholder": _HINTS[name],
            "description": name,
            "tooltip": f"`{name}` of lab.order: {_HINTS[name]}",
            "style": {"description_width": "6em"},
            "continuous_update": True,
        }
        if name == "score":
            names = sorted(name for name, _ in SCORE_FUNCTIONS)
            shown["value"] = shown["value"] or "accuracy"
            field = ipywidgets.Combobox(options=names, ensure_option=False, **shown)
        else:
            field = ipywidgets.Text(**shown)
        field.observe(lambda _: self._on_change(), names="value")
        return field

    def _on_change(self) -> None:
        """What was previewed is not what stands there any more."""
        self._previewed = None
        self.order_button.disabled = True
        self.order_button.description = "Order"

    def _terms(self) -> dict[str, Any]:
        """The arguments of `Lab.order`; empty fields are left out, and figures are figures."""
        given = {name: field.value.strip() for name, field in self.fields.items()}
        terms = self._fixed | {name: value for name, value in given.items() if value}
        if "baseline" in terms:
            terms["baseline"] = _number(terms["baseline"])
        return terms

    def _tell(self, action: Callable[[], None]) -> None:
        """Do what a button asks for, once, and say why where it is refused."""
        self.preview_button.disabled = self.order_button.disabled = True
        self.told.value = "<p role='status'>Looking at model and data…</p>"
        try:
            action()
        except PotLabError as error:
            self.told.value = refusal_html(error)
        except BaseException:
            self.told.value = "<p role='alert'>It failed; the log says why.</p>"
            raise
        finally:
            self.preview_button.disabled = False

    def _preview(self) -> None:
        terms = self._terms()
        quote = self._quote(**terms)
        self._previewed = terms
        self.told.value = quote._repr_html_()
        self.order_button.description = f"Order for {quote.escrow} POT"
        self.order_button.disabled = False

    def _on_order(self) -> None:
        terms, self._previewed = self._previewed, None
        if terms is not None:  # else a second click, sent before the front end knew that the button is off
            self._tell(lambda: self._post(terms))

    def _post(self, terms: dict[str, Any]) -> None:
        order = self._order(**terms)
        self.posted.append(order)
        self.told.value = f"<p role='status'>Posted and paid: order <code>{order.id.hex()[:12]}</code></p>"
        self._below.children = (self.told, order.card().widget)
        self._on_change()


def refusal_html(error: PotLabError) -> str:
    """A refusal as HTML: the rule, what was seen, what is wanted, and what to do; all of it escaped."""
    rows = [f"<strong>{html.escape(error.code)}</strong>: {html.escape(error.message)}"]
    for name in ("seen", "wanted"):
        if getattr(error, name) is not None:
            rows.append(f"{name}: {html.escape(error.shown(name))}")
    if todo := what_to_do(type(error)):
        rows.append(f"to do: {html.escape(todo)}")
    return f"<div role='alert'>{'<br>'.join(rows)}</div>"


def _number(text: str) -> float | str:
    """A text as a number where it is one; `Lab.order` refuses the rest in its own words."""
    try:
        return float(text)
    except ValueError:
        return text
