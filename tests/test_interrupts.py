"""Ctrl-C at a moment that drops exceptions: it comes later, and nothing is done meanwhile that cannot be taken back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from pot_lab import interrupts
from tests.begin import heeding, interrupt_in_a_callback


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    with heeding():
        yield


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_interrupt_is_noticed() -> None:
    with interrupts.noticed() as check:
        check()
        interrupt_in_a_callback()  # nothing comes of it
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_acts_at_once_where_it_can() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts.noticed():
        os.kill(os.getpid(), signal.SIGINT)
        reached = True
    assert not reached


def test_a_held_interrupt_comes_at_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts.held():
        interrupt_in_a_callback()
        reached = True
    assert reached
    with interrupts.held():
        pass
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_held_interrupt_comes_also_after_a_failure() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupts.held():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("the export failed")
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_and_ignored_interrupts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def elsewhere() -> None:
        with interrupts.held(), interrupts.noticed() as check:
            check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.held(), interrupts.noticed() as check:
            os.kill(os.getpid(), signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)
