"""`%load_ext pot_lab`: `%pot` looks at orders, network and money, `%%order` orders what a cell defines.

    %pot orders              %%order reward=25 train_for=10min title=digits
    %pot network             model = net
    %pot wallet              train = x, y
    %pot show 5f1c           test = xt, yt

The connection is made when it is first needed, to what `pot_lab.connect()` finds, and kept in the variable `lab`.
"""

from __future__ import annotations

import shlex
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class

from pot_lab.errors import InvariantBroken, one_of
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.lab import Lab, connect
from pot_lab.notebook.offers import OrderArguments
from pot_lab.notebook.order import Order

LOOKS = ("orders", "everybody", "network", "wallet", "show", "cancel")
CONTENTS = ("model", "train", "test")
_NUMBERS = ("baseline", "margin")


def order_arguments(line: str) -> dict[str, Any]:
    """`NAME=VALUE` words as arguments of `Lab.order`; values are text, but for the score's baseline and margin.

    Raises:
        BadArgument: a word is none, or names no argument.

    >>> order_arguments("reward=25 train_for='10 min' baseline=0.9")
    {'reward': '25', 'train_for': '10 min', 'baseline': 0.9}
    """
    known = [name for name in OrderArguments.__annotations__ if name != "windows"]
    found: dict[str, Any] = {}
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise BadArgument("the line of %%order cannot be read", seen=line, wanted="NAME=VALUE ...") from error
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or name not in known:
            raise BadArgument("not an argument of an order", seen=word, wanted=f"NAME=VALUE of {', '.join(known)}")
        if name in _NUMBERS:
            try:
                found[name] = float(value)
            except ValueError as error:
                raise BadArgument(f"`{name}` is not a number", seen=value, wanted="e.g. 0.9") from error
        else:
            found[name] = value.split(",") if name == "tags" else value
    return found


@magics_class
class PotMagics(Magics):
    """The magics of `%load_ext pot_lab`."""

    @property
    def _names(self) -> dict[str, Any]:
        """The user's variables."""
        names: dict[str, Any] = self._shell.user_ns
        return names

    @property
    def _shell(self) -> InteractiveShell:
        if self.shell is None:
            raise InvariantBroken("magics without a shell")
        return self.shell

    @line_magic
    def pot(self, line: str) -> Any:
        """Show orders, the network or the wallet: `%pot orders`, `%pot show ID`, `%pot cancel ID`."""
        what, _, rest = line.strip().partition(" ")
        lab = self._lab()
        if what in ("", "orders"):
            return lab.orders()
        if what == "everybody":
            return lab.orders(everybody=True)
        if what == "network":
            return lab.network()
        if what == "wallet":
            return lab.wallet()
        if what in ("show", "cancel"):
            order = lab.get(rest.strip())
            return order if what == "show" else order.cancel()
        raise BadArgument("%pot has no such command", seen=what, wanted=one_of(what, LOOKS))

    @cell_magic
    def order(self, line: str, cell: str) -> Order:
        """Run the cell, and order the training of its `model` on its `train` and `test`; the order is in `order`.

        What the cell leaves out is taken from the notebook's variables.
        """
        given = order_arguments(line)
        for name in ("reward", "train_for"):
            if name not in given:
                raise BadArgument(f"`{name}` is missing", seen=line, wanted="%%order reward=25 train_for=10min")
        source = self._shell.transform_cell(cell)
        exec(compile(source, self._shell.compile.cache(source), "exec"), self._names)
        contents: list[Any] = [self._names.get(name) for name in CONTENTS]
        if missing := [name for name, value in zip(CONTENTS, contents, strict=True) if value is None]:
            raise BadArgument("the cell does not define what is ordered", seen=f"no {', '.join(missing)}", wanted="all")
        order = self._lab().order(*contents, **given)
        self._names["order"] = order
        return order

    def _lab(self) -> Lab:
        lab = self._names.get("lab")
        if not isinstance(lab, Lab):
            lab = self._names["lab"] = connect()
        return lab


def load(shell: InteractiveShell) -> None:
    """Register the magics, and show errors as short cards."""
    from pot_lab.notebook.error_cards import show_errors_short

    shell.register_magics(PotMagics)
    show_errors_short(shell)
