"""What a call shows while it goes on: one line, in a notebook or on a terminal only."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
import torch
from torch import nn

from pot_lab.notebook import step_line
from pot_lab.notebook.step_line import StepLine
from pot_lab.notebook.waiting import latest_end_ms, waiting_text
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.queries import order_view
from tests.notebook.finished import finished_order
from tests.notebook.in_process import FollowedWorld, lab_of
from tests.protocol.world import WINDOWS, World, key

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_that_grows_and_shrinks() -> None:
    terminal = Terminal()
    line = StepLine("order", terminal)
    line("checking model and data")
    line("checking model and data")
    line("paying")
    line.close("posted")
    first, second, third = terminal.getvalue().split("\r")[1:]
    assert first == "order: checking model and data"
    assert second == "order: paying".ljust(len(first))
    assert third.startswith("order: posted (") and third.endswith(" s)\n")


def test_a_file_or_a_closed_stream_sees_nothing() -> None:
    file = io.StringIO()
    line = StepLine("order", file)
    line("paying")
    line.close("posted")
    assert file.getvalue() == ""
    file.close()
    StepLine("order", file)("paying")


def test_a_kernel_sees_one_output_that_is_updated(monkeypatch: pytest.MonkeyPatch) -> None:
    import IPython.display

    shown: list[str] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            shown.append(f"again {bundle['text/plain']}")

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(bundle["text/html"])
        return Handle()

    monkeypatch.setattr(step_line, "_in_kernel", lambda: True)
    monkeypatch.setattr(IPython.display, "display", display)
    line = StepLine("<order>")
    line("checking")
    line("paying")
    assert shown == ["<span role='status'>&lt;order&gt;: checking</span>", "again <order>: paying"]


def test_what_an_order_waits_for_is_said_with_claims_and_end() -> None:
    world = World()
    order_id, _ = world.start(title="digits")
    view = order_view(order_id, world.order(order_id))
    rest_ms = sum(getattr(WINDOWS, f"{name}_ms") for name in ("reveal", "release", "score", "open_scores", "challenge"))
    assert latest_end_ms(view) == view.closes_ms + rest_ms
    assert waiting_text(view).startswith("providers train, no claim yet; ends by ")
    provider = key("provider")
    world.stake(provider, 0)
    world.claim(order_id, provider, "model")
    assert "1 claim (the last at " in waiting_text(order_view(order_id, world.order(order_id)))
    world.wait_for(order_id, Window.REVEAL)
    assert waiting_text(order_view(order_id, world.order(order_id))).startswith(
        "providers reveal their models, 1 claim"
    )


def test_how_an_order_ended_is_said_with_score_and_money() -> None:
    view = finished_order()
    said = waiting_text(view)
    assert said.startswith("sealed; the money waits for the next settlement; best model 95 of 100")
    settled = msgspec.structs.replace(view, window=Window.SETTLED)
    assert waiting_text(settled).startswith("settled: best model 95 of 100") and "POT reward" in waiting_text(settled)


def test_wait_shows_each_window_and_why_an_order_is_void(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = FollowedWorld()
    said: list[str] = []
    monkeypatch.setattr(StepLine, "_show", lambda self, text: said.append(text))
    order = lab_of(world, tmp_path).order(nn.Linear(4, 3), (X, Y), (X, Y), reward=5, train_for="10s")
    steps = [text.removeprefix("order: ").split()[0] for text in said]
    assert steps == ["asking", "checking", "scoring", "encrypting", "uploading", "posting,", order.id.hex()[:12]]
    assert " kB" in said[4] and "POT into escrow" in said[5]
    assert said[-1].startswith(f"order: {order.id.hex()[:12]} is posted, ")
    order.withdraw()
    said.clear()
    order.wait(timeout=60)
    assert "void: " in said[-1] and "POT come back" in said[-1]
    said.clear()
    order.wait(timeout=60, progress=False)
    assert said == []
