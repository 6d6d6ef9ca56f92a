"""Each fault of the ledger is one line in the log, with its traceback, and one more in the metric."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pot_lab.network.duties.report_faults import ReportFaults
from pot_lab.protocol import ledger as rules
from pot_lab.protocol.book import Book
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import Register
from tests.protocol.scenes import bring_to, new_world
from tests.protocol.world import key


def failing(book: Book, *_: Any) -> bytes:
    raise KeyError("the missing entry")


def test_a_fault_is_logged_and_counted_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    world = new_world()
    world.expects_faults = True
    counted: list[int] = []
    duty = ReportFaults(lambda: world.ledger, lambda: counted.append(1))
    order_id = bring_to(world, Window.REVEAL)
    monkeypatch.setitem(rules.HANDLERS, "register", failing)
    monkeypatch.setitem(windows._CLOSE, Window.REVEAL, failing)
    with caplog.at_level(logging.ERROR, "pot_lab.network.duties"):
        world.submit(key("anybody"), Register(int(Role.PROVIDER)))
        world.now_ms = world.order(order_id).closes_ms
        world.batch()
        for sequence in (5, 6):
            duty.on_batch(sequence, world.now_ms, ())
    assert duty.poll(world.now_ms) == [] and len(counted) == 2
    first, second = caplog.messages
    assert "where='register transaction'" in first and "KeyError: 'the missing entry'" in first
    assert "where='reveal window'" in second and order_id.hex() in second and "batch=5" in second
