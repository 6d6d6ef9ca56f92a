"""The server of custody as a child process: where it is served, and that it does not outlive its aggregator."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from pot_lab.network.loopback import free_ports
from pot_lab.store import custody_process
from pot_lab.store.custody import Custody
from pot_lab.store.custody_process import FIRST_PAUSE_S, LONGEST_PAUSE_S, STEADY_S, CustodyProcess, ServingPlace
from tests.running import is_running

HOST = "127.0.0.1"
DATA = b"weights"


def served(place: ServingPlace) -> bytes:
    """What is served as the blob, once anything answers there."""
    while True:
        connection = http.client.HTTPConnection(place.host, place.port, timeout=30)
        try:
            connection.request("GET", "/" + hashlib.sha256(DATA).hexdigest())
            return connection.getresponse().read()
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()


def is_served(place: ServingPlace) -> bool:
    connection = http.client.HTTPConnection(place.host, place.port, timeout=30)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    custody = Custody(tmp_path / "custody")
    custody.expect(hashlib.sha256(DATA).digest(), len(DATA), payer=b"a" * 20, reference=b"order")
    with custody.receive(hashlib.sha256(DATA).digest(), len(DATA)) as writer:
        writer.write(DATA)
    custody.close()
    return tmp_path / "custody"


@pytest.fixture
def places() -> list[ServingPlace]:
    return [ServingPlace(HOST, port) for port in free_ports(2)]


class Serving(CustodyProcess):
    """A real server, and the processes that were started for it."""

    def __init__(self, root: Path, place: Callable[[], ServingPlace]) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        super().__init__(root, place, start=self.begin)

    def begin(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        self.started.append(custody_process._start(arguments))
        return self.started[-1]


@pytest.fixture
def serving(root: Path, places: list[ServingPlace]) -> Iterator[Serving]:
    made = Serving(root, lambda: places[0])
    made.start()
    yield made
    made.stop()
    assert not any(psutil.pid_exists(each.pid) for each in made.started)


def test_custody_is_served_in_a_group_of_its_own_until_it_is_stopped(
    serving: Serving, places: list[ServingPlace]
) -> None:
    assert served(places[0]) == DATA
    [process] = serving.started
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)
    serving.stop()
    assert process.returncode == 0 and not is_served(places[0])


def test_a_server_that_is_killed_is_started_again(serving: Serving, places: list[ServingPlace]) -> None:
    assert served(places[0]) == DATA
    serving.started[0].kill()
    until(lambda: len(serving.started) == 2)
    assert served(places[0]) == DATA


def test_it_moves_with_its_place(serving: Serving, places: list[ServingPlace]) -> None:
    assert served(places[0]) == DATA
    old = places[0]
    places[0] = places[1]
    assert served(places[1]) == DATA
    assert not is_served(old)


def test_it_is_served_nowhere_without_a_port(serving: Serving, places: list[ServingPlace]) -> None:
    assert served(places[0]) == DATA
    places[0] = ServingPlace(HOST, 0)
    until(lambda: serving.started[0].poll() is not None)
    assert len(serving.started) == 1


def test_a_server_ends_with_an_aggregator_that_was_killed(root: Path, places: list[ServingPlace]) -> None:
    program = (
        "import sys, time; from pathlib import Path; from pot_lab.store.custody_process import *\n"
        "CustodyProcess(Path(sys.argv[1]), lambda: ServingPlace(sys.argv[2], int(sys.argv[3]))).start()\n"
        "time.sleep(3600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(root), HOST, str(places[0].port)])
    try:
        assert served(places[0]) == DATA
        [child] = psutil.Process(parent.pid).children()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    until(lambda: not is_running(child.pid))
    assert not is_served(places[0])


def test_an_ipv6_address_is_served(root: Path, places: list[ServingPlace]) -> None:
    place = ServingPlace("::1", places[0].port)
    serving = Serving(root, lambda: place)
    serving.start()
    try:
        assert served(place) == DATA
    finally:
        serving.stop()


class Ended:
    """A process that has ended."""

    returncode, stdin, pid = 1, None, 0

    def poll(self) -> int:
        return 1

    def terminate(self) -> None:
        pass

    def wait(self, timeout: float) -> int:
        return 1


def test_the_pause_before_the_next_start_grows_and_begins_anew_after_a_steady_time(tmp_path: Path) -> None:
    now_s, starts = [0.0], list[float]()

    def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        starts.append(now_s[0])
        if len(starts) % 2:
            raise OSError("no more processes")
        return Ended()  # type: ignore[return-value]

    place = ServingPlace(HOST, 1)
    process = CustodyProcess(tmp_path, lambda: place, clock_s=lambda: now_s[0], start=start)
    while len(starts) < 20:
        process.look()
        now_s[0] += FIRST_PAUSE_S / 2
    waits = [later - sooner for sooner, later in itertools.pairwise(starts[1:])]
    assert waits[:6] == sorted(waits[:6]) and waits[0] < FIRST_PAUSE_S + 1
    assert waits[-1] >= LONGEST_PAUSE_S and max(waits) <= LONGEST_PAUSE_S + 1
    process.look()
    while len(starts) % 2:  # one that is started last, and is found ended after a steady time
        process.look()
        now_s[0] += FIRST_PAUSE_S
    count = len(starts)
    now_s[0] += STEADY_S
    process.look()
    assert len(starts) == count + 1
    process.stop()
