"""Downloads beside the loop: slow and broken links keep neither other files nor other orders waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.crypto.canonical import sha256
from pot_lab.crypto.link import Link
from pot_lab.errors import PotLabError
from pot_lab.jobs.downloads import FIRST_S, PER_ORDER, Downloads, Gathering, Wanted
from pot_lab.store import LinkDead, TooSlow

ORDER, OTHER = b"order", b"other"


def wanted(name: str, size_bytes: int = 0, *, required: bool = True) -> Wanted:
    link = Link(digest=sha256(name.encode()), size_bytes=size_bytes, uri=f"http://127.0.0.1:9/{name}")
    return Wanted(name=name, link=link, limit_bytes=1 << 20, required=required)


class Fetcher:
    """Fetches within the call, on a clock that only waiting moves; links in `slow` need so many seconds."""

    def __init__(self, **slow: float) -> None:
        self.slow, self.now_s = slow, 0.0
        self.failing: dict[str, Exception] = {}
        self.calls: list[tuple[str, float]] = []
        self.done: list[str] = []
        self.built: list[tuple[list[str], list[str]]] = []
        self.downloads = Downloads(self.fetch, lambda: None, threads=0, clock_s=lambda: self.now_s)

    def fetch(self, link: Link, limit_bytes: int, timeout_s: float) -> Path:
        name = link.uri.rpartition("/")[2]
        self.calls.append((name, timeout_s))
        if name in self.failing:
            raise self.failing[name]
        if self.slow.get(name, 0.0) > timeout_s:
            self.now_s += timeout_s
            self.slow[name] -= timeout_s  # it goes on where it stopped
            raise TooSlow("too slow", seen=name)
        self.now_s += self.slow.get(name, 0.0)
        self.done.append(name)
        return Path(name)

    def gather(self, *files: Wanted, timeout_s: float = 1000.0, build: Callable[..., None] | None = None) -> Gathering:
        def note(found: object, failures: object) -> None:
            self.built.append((sorted(found), sorted(failures)))  # type: ignore[call-overload]

        self.downloads.begin(ORDER, files, timeout_s=timeout_s, build=build or note)
        state = self.downloads.state(ORDER)
        assert state is not None and state.done
        return state


def test_a_file_that_drips_goes_behind_the_others_and_gets_more_time_each_turn() -> None:
    fetcher = Fetcher(slow=10.0)
    state = fetcher.gather(wanted("slow", required=False), *(wanted(f"f{i}") for i in range(5)))
    assert fetcher.done == ["f0", "f1", "f2", "f3", "f4", "slow"] and state.error is None
    assert [time_s for name, time_s in fetcher.calls if name == "slow"] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S]
    assert fetcher.built == [(["f0", "f1", "f2", "f3", "f4", "slow"], [])]


def test_files_get_time_by_their_size() -> None:
    fetcher = Fetcher()
    fetcher.gather(wanted("big", 1 << 30))
    assert fetcher.calls == [("big", FIRST_S + 128.0)]


def test_what_did_not_come_in_the_orders_time_is_left_out_if_it_may_be() -> None:
    fetcher = Fetcher(slow=1e9)
    state = fetcher.gather(wanted("slow", required=False), wanted("graph"), timeout_s=20.0)
    assert fetcher.now_s <= 20.0 and fetcher.built == [(["graph"], ["slow"])] and state.error is None
    assert isinstance(state.failures["slow"], TooSlow)


def test_without_a_file_that_it_needs_an_order_gets_no_more_and_is_not_built() -> None:
    fetcher = Fetcher()
    fetcher.failing["graph"] = LinkDead("there is no such blob")
    state = fetcher.gather(wanted("graph"), wanted("weights"))
    assert state.error is fetcher.failing["graph"] and fetcher.built == [] and len(fetcher.calls) == 1


@pytest.mark.parametrize("failure", [UnicodeError("idna"), KeyError("x"), OSError("reset"), LinkDead("gone")])
def test_whatever_a_link_brings_up_becomes_a_failure_of_that_file(failure: Exception) -> None:
    fetcher = Fetcher()
    fetcher.failing["model"] = failure
    state = fetcher.gather(wanted("model", required=False), wanted("graph"))
    assert fetcher.built == [(["graph"], ["model"])] and isinstance(state.failures["model"], PotLabError)


@pytest.mark.parametrize("failure", [ValueError("bug"), OSError(28, "no room"), PotLabError("bad data")])
def test_files_that_cannot_be_used_are_an_error_of_the_order(failure: Exception) -> None:
    def build(*_: object) -> None:
        raise failure

    state = Fetcher().gather(wanted("graph"), build=build)
    assert isinstance(state.error, PotLabError | OSError) and str(failure.args[0]) in str(state.error)


def test_an_order_without_files_is_built_at_once() -> None:
    fetcher = Fetcher()
    fetcher.gather()
    assert fetcher.built == [([], [])]


class Hanging:
    """A fetch on real threads in which links that begin with `slow` hang until they are let go."""

    def __init__(self) -> None:
        self.go, self.hanging = threading.Event(), threading.Semaphore(0)
        self.woken = threading.Semaphore(0)
        self.fetched: list[str] = []
        self.downloads = Downloads(self.fetch, self.woken.release)

    def fetch(self, link: Link, limit_bytes: int, timeout_s: float) -> Path:
        name = link.uri.rpartition("/")[2]
        if name.startswith("slow"):
            self.hanging.release()
            self.go.wait(240)
        self.fetched.append(name)
        return Path(name)


def test_many_links_that_hang_leave_threads_for_other_orders() -> None:
    net = Hanging()
    slow = [wanted(f"slow{i}", required=False) for i in range(100)]
    net.downloads.begin(ORDER, slow, timeout_s=60.0, build=lambda *_: None)
    for _ in range(PER_ORDER):
        assert net.hanging.acquire(timeout=240)
    net.downloads.begin(OTHER, [wanted("graph")], timeout_s=60.0, build=lambda *_: None)
    net.downloads.wait(OTHER, 60.0)
    state, hung = net.downloads.state(OTHER), net.downloads.state(ORDER)
    assert state is not None and state.done and state.error is None and net.woken.acquire(timeout=240)
    assert hung is not None and not hung.done and hung.running == PER_ORDER
    net.downloads.forget(ORDER)
    assert net.downloads.state(ORDER) is None
    net.go.set()
    net.downloads.close()


def test_nothing_more_is_fetched_once_downloads_are_closed() -> None:
    net = Hanging()
    net.downloads.begin(
        ORDER, [wanted(f"slow{i}") for i in range(PER_ORDER + 5)], timeout_s=60.0, build=lambda *_: pytest.fail("built")
    )
    for _ in range(PER_ORDER):
        assert net.hanging.acquire(timeout=240)
    net.downloads.close()
    net.go.set()
    for thread in threading.enumerate():
        if thread.name == "pot-lab-download":
            thread.join(240)
    assert len(net.fetched) == PER_ORDER
