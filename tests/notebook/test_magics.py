"""`%load_ext pot_lab` in a real IPython shell: magics, and refusals as short cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from pot_lab.notebook.error_cards import card_lines, show_errors_short, users_line, what_to_do
from pot_lab.notebook.errors import BadArgument, NoMiners
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.magics import order_arguments
from pot_lab.notebook.order import Order
from pot_lab.protocol.cycle import Window
from tests.notebook.in_process import FollowedWorld, lab_of

CONTENTS = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 3)
x, y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
train = test = x, y
"""


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    with lab_of(FollowedWorld(), tmp_path) as lab:
        shell.user_ns["lab"] = lab
        shell.run_line_magic("load_ext", "pot_lab")
        yield shell
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, cell: str) -> object:
    return shell.run_cell(cell).result


def test_a_cell_is_ordered_and_looked_at(shell: InteractiveShell) -> None:
    order = run(shell, f"%%order reward=5 train_for=10s title='two words' tags=a,b\n{CONTENTS}")
    assert isinstance(order, Order) and shell.user_ns["order"] is order
    record = order.view().order
    assert (record.title, record.tags, record.windows.train_ms) == ("two words", ("a", "b"), 10_000)
    (listed,) = run(shell, "%pot")  # type: ignore[misc]
    assert listed.id == order.id
    shown = run(shell, f"%pot show {order.id.hex()[:6]}")
    assert isinstance(shown, Order) and shown.id == order.id
    assert len(run(shell, "%pot everybody")) == 1  # type: ignore[arg-type]
    assert "100" not in repr(run(shell, "%pot wallet"))
    run(shell, f"%pot cancel {order.id.hex()}")
    assert order.window is Window.VOID


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%pot nonsense", "%pot has no such command"),
        ("%pot show", "not an order's id, or the first digits of one"),
        ("%%order reward=5\npass", "`train_for` is missing"),
        ("%%order reward=5 train_for=10s\nmodel = train = 1", "no test"),
        ("%%order reward=5 train_for=10s rewards=5\npass", "not an argument of an order"),
        ("%%order reward=5 train_for=10s baseline=high\npass", "`baseline` is not a number"),
        ("%%order reward='5\npass", "cannot be read"),
    ],
)
def test_what_the_magics_cannot_use_is_a_card(
    shell: InteractiveShell, cell: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell(cell)
    assert isinstance(result.error_in_exec, BadArgument)
    out = capsys.readouterr().out
    assert said in out and "to do" in out and "Traceback" not in out
    assert len(out.strip().splitlines()) <= 6


def test_a_cell_that_fails_orders_nothing(shell: InteractiveShell) -> None:
    result = shell.run_cell("%%order reward=5 train_for=10s\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    lab = shell.user_ns["lab"]
    assert isinstance(lab, Lab) and lab.orders() == []


def test_a_refusal_names_the_users_line_and_what_to_do(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("x = 1\nlab.get('xyz')  # mine")
    out = capsys.readouterr().out
    assert "line 2: lab.get('xyz')  # mine" in out and "BadArgument" in out and "nothing was sent" in out
    assert "lab.py" not in out
    shell.InteractiveTB.set_mode("Verbose")
    shell.run_cell("lab.get('xyz')")
    assert "lab.py" in capsys.readouterr().out
    shell.InteractiveTB.set_mode("Context")
    shell.run_cell("1 / 0")  # others' errors stay as they are
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_a_users_own_handler_stays(shell: InteractiveShell) -> None:
    shell.set_custom_exc((KeyError,), lambda *_: [])
    show_errors_short(shell)
    assert shell.custom_exceptions == (KeyError,)


def test_cards_without_ipython_are_no_trouble() -> None:
    InteractiveShell.clear_instance()
    show_errors_short()


def test_a_card_has_the_errors_advice_and_bounded_values() -> None:
    assert what_to_do(NoMiners).startswith("start practice miners with `pot-lab testnet up --miners`")
    assert what_to_do(type("Plain", (BadArgument,), {"__doc__": None})) == ""
    lines = card_lines(BadArgument("too long", seen="x" * 5_000))
    assert max(map(len, lines)) < 300 and "wanted" not in "".join(lines)
    assert users_line(None) == ""


def test_words_become_arguments() -> None:
    given = order_arguments("reward=25 score=mse train_for='1h 30min' margin=0.5")
    assert given == {"reward": "25", "score": "mse", "train_for": "1h 30min", "margin": 0.5}
    with pytest.raises(BadArgument):
        order_arguments("windows=1")
