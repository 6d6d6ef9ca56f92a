"""The client's thread: actions in order, timers, readers, and an end that leaves nothing behind."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from pot_lab.network.client.io_thread import IoThread, Timers
from pot_lab.network.wake_up import WakeUp

PATIENCE_S = 240


class Clock:
    def __init__(self) -> None:
        self.time_s = 5.0

    def __call__(self) -> float:
        return self.time_s


def test_timers_are_due_in_time_and_in_order() -> None:
    clock, done = Clock(), list[str]()
    timers = Timers(clock)
    assert timers.wait_s(1.0) == 1.0 and timers.pop_due() is None
    timers.after(0.5, lambda: done.append("b"))
    timers.after(0.25, lambda: done.append("a"))
    timers.after(0.5, lambda: done.append("c"))
    assert timers.wait_s(1.0) == 0.25 and timers.wait_s(0.1) == 0.1 and timers.pop_due() is None
    clock.time_s += 0.25
    assert timers.wait_s(1.0) == 0.0
    clock.time_s += 0.25
    while (due := timers.pop_due()) is not None:
        due()
    assert done == ["a", "b", "c"]
    timers.after(0, lambda: None)
    clock.time_s += 9
    assert timers.wait_s(1.0) == 0.0


def test_a_wake_up_is_seen_once_and_is_harmless_when_full_or_closed() -> None:
    wake_up = WakeUp()
    assert not wake_up.drain()
    wake_up.wake()
    assert wake_up.drain() and not wake_up.drain()
    for _ in range(5_000):  # more than the pipe holds
        wake_up.wake()
    assert wake_up.drain()
    wake_up.close()
    wake_up.wake()


@pytest.fixture
def thread() -> IoThread:
    return IoThread("test-io")


def test_it_starts_with_the_first_call_and_runs_calls_in_order(thread: IoThread) -> None:
    assert not any(each.name == "test-io" for each in threading.enumerate())
    done, names, seen = threading.Event(), set[str](), list[int]()
    for number in range(100):
        thread.call(lambda number=number: (names.add(threading.current_thread().name), seen.append(number)))  # type: ignore[misc]
    thread.call(done.set)
    assert done.wait(PATIENCE_S) and seen == list(range(100)) and names == {"test-io"}
    thread.close()
    assert not any(each.name == "test-io" for each in threading.enumerate())


def test_timers_and_readers_run_on_the_thread(thread: IoThread) -> None:
    got = threading.Event()
    frames: list[bytes] = []

    def begin() -> None:
        receiver, sender = socket.socketpair()

        def read() -> None:
            frames.append(receiver.recv(16))
            if len(frames) == 2:
                thread.forget(receiver)
                thread.forget(receiver)
                sender.send(b"unread")
                thread.after(0.05, end)

        def end() -> None:
            receiver.close()
            sender.close()
            got.set()

        thread.read(receiver, read)
        sender.send(b"1")
        thread.after(0.01, lambda: sender.send(b"2"))

    thread.call(begin)
    assert got.wait(PATIENCE_S) and frames == [b"1", b"2"]
    thread.close()


def test_an_action_that_fails_does_not_end_the_thread(thread: IoThread, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("the user's own fault")

    done = threading.Event()
    thread.call(fails)
    thread.call(done.set)
    assert done.wait(PATIENCE_S) and "an action on the client's thread failed" in caplog.text
    thread.close()


def test_what_was_called_before_the_end_still_runs_and_nothing_is_usable_after(thread: IoThread) -> None:
    done: list[int] = []
    assert thread.usable
    for number in range(20):
        thread.call(lambda number=number: done.append(number))  # type: ignore[misc]
    thread.close()
    assert done == list(range(20)) and not thread.usable
    thread.close()


def test_a_thread_that_never_began_can_be_closed(thread: IoThread) -> None:
    thread.close()
    assert not thread.usable
    thread.call(lambda: None)
    assert not any(each.name == "test-io" for each in threading.enumerate())


def test_it_can_be_closed_from_its_own_thread(thread: IoThread) -> None:
    own: list[threading.Thread] = []
    thread.call(lambda: own.append(threading.current_thread()))
    thread.call(thread.close)
    while not own:
        pass
    own[0].join(PATIENCE_S)
    assert not own[0].is_alive()


def test_another_process_neither_uses_nor_closes_it(thread: IoThread, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "getpid", lambda: -1)
        assert not thread.usable
        thread.close()
    assert thread.usable
    thread.close()
