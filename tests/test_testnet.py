"""The testnet's own care: what was started is written down before anything may interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pot_lab.testnet.processes import uninterrupted


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A suite that runs in the background ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_waits_until_the_end_of_the_block() -> None:
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        steps.append("inside")
    assert steps == ["inside"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_an_interrupt_nothing_happens_and_other_threads_may_use_it_too() -> None:
    done = []

    def work() -> None:
        with uninterrupted():
            done.append(True)

    with uninterrupted():
        done.append(True)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True, True]


def test_a_process_started_inside_can_still_be_told_to_stop() -> None:
    with uninterrupted():
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
