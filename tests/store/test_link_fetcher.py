"""Strangers' links are followed by processes with limits: what they name is held, and none of them ends the asker."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pot_lab.crypto.link import Link
from pot_lab.store.custody import ARRIVING_FOLDER, Custody
from pot_lab.store.link_fetcher import FetchedLink, FetchJob, FetchLimits, FetchOutcome, LinkFetcher, start_fetcher
from tests.store.conftest import ScriptedServer, ServerProcess

PATIENT = FetchLimits(base_s=600.0)


def link_to(data: bytes, uri: str, size: int | None = None) -> Link:
    return Link(digest=hashlib.sha256(data).digest(), size_bytes=len(data) if size is None else size, uri=uri)


class Fetching:
    """A custody, a fetcher into it, and the processes that it started."""

    def __init__(self, root: Path, *, private_links: bool = True, limits: FetchLimits = PATIENT) -> None:
        self.custody = Custody(root)
        self.now_s = 0.0
        self.started: list[subprocess.Popen[bytes]] = []
        self.fetcher = LinkFetcher(
            root, private_links=private_links, limits=limits, clock_s=lambda: self.now_s, start=self.start
        )

    def start(self, job: FetchJob) -> subprocess.Popen[bytes]:
        self.started.append(start_fetcher(job))
        return self.started[-1]

    def expect(self, link: Link) -> None:
        self.custody.expect(link.digest, link.size_bytes, payer=b"a" * 20, reference=b"order")

    def ended(self) -> FetchedLink:
        """The next fetch that ends."""
        while not (found := self.fetcher.poll()):
            time.sleep(0.02)
        assert len(found) == 1
        return found[0]

    def code(self, link: Link) -> str:
        """How following an expected link ends."""
        self.expect(link)
        assert self.fetcher.begin(link)
        found = self.ended()
        assert found.link == link
        assert self.custody.has(link.digest, link.size_bytes) is (not found.outcome.code)
        return found.outcome.code


@pytest.fixture
def fetching(tmp_path: Path) -> Iterator[Fetching]:
    made = Fetching(tmp_path / "custody")
    yield made
    made.fetcher.close()
    made.custody.close()
    assert not any(psutil.pid_exists(each.pid) for each in made.started)


def test_a_link_is_followed_into_custody(fetching: Fetching, serve: Callable[..., ServerProcess]) -> None:
    data = os.urandom(3_000_000)
    server = serve()
    server.request("PUT", "/" + hashlib.sha256(data).hexdigest(), data)
    link = link_to(data, f"{server.url}/{hashlib.sha256(data).hexdigest()}")
    assert fetching.code(link) == ""
    assert fetching.custody.verify(link.digest, link.size_bytes)
    assert list((fetching.custody.root / ARRIVING_FOLDER).iterdir()) == []


def test_what_is_not_expected_is_not_kept(fetching: Fetching, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"data")
    link = link_to(b"data", f"file://{tmp_path / 'blob'}")
    assert fetching.fetcher.begin(link)
    assert fetching.ended().outcome.code == "NotExpected"
    assert not fetching.custody.has(link.digest, 4)


HTTP = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ([HTTP % 4 + b"dat4"], "WrongHash"),
        ([HTTP % (1 << 40)], "TooBig"),
        ([HTTP % 3 + b"dat"], "WrongHash"),
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "LinkDead"),
        ([b"HTTP/1.1 200 OK\r\n\r\n" + b"data" * 100_000], "WrongHash"),
        ([b"rubbish"], "LinkDead"),
    ],
)
def test_a_server_that_lies_is_told_by_name(
    fetching: Fetching, scripted: Callable[..., ScriptedServer], answer: list[bytes | float], code: str
) -> None:
    assert fetching.code(link_to(b"data", scripted(answer).url)) == code


def test_private_addresses_and_files_are_not_reached_unless_the_network_allows_it(
    tmp_path: Path, scripted: Callable[..., ScriptedServer]
) -> None:
    fetching = Fetching(tmp_path / "custody", private_links=False)
    server = scripted([HTTP % 4 + b"data"])
    (tmp_path / "secret").write_bytes(b"data")
    port = server.url.split(":")[2]
    for uri in (server.url, f"http://localhost:{port}", f"http://[::1]:{port}", f"file://{tmp_path / 'secret'}"):
        assert fetching.code(link_to(b"data", uri)) == "UnusableAddress", uri
    assert server.requests == []
    fetching.fetcher.close()
    fetching.custody.close()


def test_a_server_that_drips_is_cut_off_and_a_process_that_hangs_killed(
    fetching: Fetching, scripted: Callable[..., ScriptedServer]
) -> None:
    server = scripted([HTTP % 4 + b"d", 1e6])
    link = link_to(b"data", server.url)
    fetching.expect(link)
    assert fetching.fetcher.begin(link)
    while not server.requests:
        time.sleep(0.02)
    assert fetching.fetcher.poll() == []
    fetching.now_s = 1e6
    assert fetching.ended().outcome.code == "TooSlow"
    quick = Fetching(fetching.custody.root, limits=FetchLimits(base_s=1.0))  # the process's own clock
    assert quick.code(link) == "TooSlow"
    quick.custody.close()


def test_a_process_killed_with_9_is_told_and_the_next_fetch_succeeds(
    fetching: Fetching, scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    link = link_to(b"data", scripted([HTTP % 4 + b"d", 1e6]).url)
    fetching.expect(link)
    assert fetching.fetcher.begin(link)
    fetching.started[0].send_signal(signal.SIGSTOP)
    fetching.started[0].send_signal(signal.SIGKILL)
    assert fetching.ended().outcome.code == "FetcherDied"
    (tmp_path / "blob").write_bytes(b"data")
    assert fetching.code(link_to(b"data", f"file://{tmp_path / 'blob'}")) == ""


def test_only_so_many_run_at_once_and_none_twice(tmp_path: Path, scripted: Callable[..., ScriptedServer]) -> None:
    fetching = Fetching(tmp_path / "custody", limits=FetchLimits(at_once=2, base_s=600.0))
    server = scripted([1e6])
    links = [link_to(bytes([i]), server.url) for i in range(3)]
    for link in links:
        fetching.expect(link)
    assert [fetching.fetcher.begin(link) for link in (links[0], links[0], links[1], links[2])] == [
        True,
        False,
        True,
        False,
    ]
    assert fetching.fetcher.free == 0 and len(fetching.started) == 2
    fetching.fetcher.close()
    assert not any(psutil.pid_exists(each.pid) for each in fetching.started)
    assert {each.outcome.code for each in fetching.fetcher.poll()} == {"FetcherDied"}
    fetching.custody.close()


def test_one_process_follows_several_links_and_one_that_drips_keeps_no_other_waiting(
    fetching: Fetching, scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    slow = link_to(b"data", scripted([HTTP % 4 + b"d", 1e6]).url)
    dead = link_to(b"gone", "http://127.0.0.1:1/")
    good = []
    for data in (b"one", b"two"):
        (tmp_path / data.decode()).write_bytes(data)
        good.append(link_to(data, f"file://{tmp_path / data.decode()}"))
    for link in (slow, dead, *good):
        fetching.expect(link)
    assert fetching.fetcher.begin(slow, dead, *good)
    found: dict[Link, str] = {}
    while len(found) < 3:
        found |= {each.link: each.outcome.code for each in fetching.fetcher.poll()}
        time.sleep(0.02)
    assert found == {dead: "LinkDead", good[0]: "", good[1]: ""} and len(fetching.started) == 1
    assert fetching.custody.held() == {(link.digest, link.size_bytes) for link in good}
    assert fetching.fetcher.running == 1 and not fetching.fetcher.begin(slow)
    fetching.started[0].kill()
    assert fetching.ended() == FetchedLink(slow, FetchOutcome(code="FetcherDied", reason="exit status -9"))


def test_a_fetch_ends_with_an_aggregator_that_was_killed(
    scripted: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    server = scripted([HTTP % 4 + b"d", 1e6])
    link = link_to(b"data", server.url)
    with contextlib.closing(Custody(tmp_path / "custody")) as custody:
        custody.expect(link.digest, link.size_bytes, payer=b"a" * 20, reference=b"order")
    program = (
        "import sys, time; from pathlib import Path; from pot_lab.crypto.link import Link\n"
        "from pot_lab.store.link_fetcher import *\n"
        "fetcher = LinkFetcher(Path(sys.argv[1]), private_links=True, limits=FetchLimits(base_s=600.0))\n"
        "fetcher.begin(Link(bytes.fromhex(sys.argv[2]), 4, sys.argv[3])); time.sleep(3600)"
    )
    arguments = [str(tmp_path / "custody"), link.digest.hex(), link.uri]
    parent = subprocess.Popen([sys.executable, "-c", program, *arguments])
    try:
        while not server.requests:
            time.sleep(0.02)
        [child] = psutil.Process(parent.pid).children()
    finally:
        parent.kill()
        parent.wait()
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)


def test_links_of_one_process_share_the_room(tmp_path: Path) -> None:
    small = Fetching(tmp_path / "small", limits=PATIENT._replace(total_bytes=6))
    links = []
    for data in (b"first", b"other"):
        (tmp_path / data.decode()).write_bytes(data)
        links.append(link_to(data, f"file://{tmp_path / data.decode()}"))
        small.expect(links[-1])
    assert small.fetcher.begin(*links)
    found: list[FetchedLink] = []
    while len(found) < 2:
        found += small.fetcher.poll()
        time.sleep(0.02)
    assert sorted(each.outcome.code for each in found) == ["", "StoreFull"] and len(small.custody.held()) == 1
    small.custody.close()


def test_a_full_custody_begins_no_download(tmp_path: Path, scripted: Callable[..., ScriptedServer]) -> None:
    fetching = Fetching(tmp_path / "custody", limits=PATIENT._replace(total_bytes=3))
    server = scripted([HTTP % 4 + b"data"])
    assert fetching.code(link_to(b"data", server.url)) == "StoreFull"
    assert server.requests == []
    fetching.custody.close()


def test_downloads_that_run_have_their_room_already(tmp_path: Path, scripted: Callable[..., ScriptedServer]) -> None:
    """Two links whose blobs fit alone and not together: the second does not begin to download."""
    fetching = Fetching(tmp_path / "custody", limits=PATIENT._replace(total_bytes=6))
    slow, quick = scripted([1e6]), scripted([HTTP % 4 + b"data"])
    first, second = link_to(b"slow", slow.url), link_to(b"data", quick.url)
    fetching.expect(first)
    assert fetching.fetcher.begin(first)
    assert fetching.code(second) == "StoreFull" and quick.requests == []
    fetching.fetcher.close()
    fetching.custody.close()


def test_a_process_that_cannot_start_is_no_exception(tmp_path: Path) -> None:
    def start(job: FetchJob) -> subprocess.Popen[bytes]:
        raise OSError("no process")

    fetcher = LinkFetcher(tmp_path, private_links=True, start=start)
    assert fetcher.begin(link_to(b"data", "http://host/"))
    assert [each.outcome.code for each in fetcher.poll()] == ["FetcherFault"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("print('{}')", ""),
        ("print('x' * 100000)", "FetcherDied"),
        ("", "FetcherDied"),
        ("print('{}'); sys.exit(1)", "FetcherDied"),
        ("print('{}' * 2)", "FetcherDied"),
        ("print('{}', end='')", "FetcherDied"),
    ],
)
def test_what_a_process_says_is_bounded_and_has_to_fit_its_exit(tmp_path: Path, said: str, code: str) -> None:
    def start(job: FetchJob) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", f"import sys; {said}"], stdout=subprocess.PIPE)

    now = [0.0]
    fetcher = LinkFetcher(tmp_path, private_links=True, start=start, clock_s=lambda: now[0])
    assert fetcher.begin(link_to(b"data", "http://host/"))
    found: list[FetchedLink] = []
    while not found:
        found = fetcher.poll()
        now[0] += 0.01  # one that fills its pipe is killed in the end
        time.sleep(0.001)
    assert found[0].outcome.code in (code, "TooSlow" if "100000" in said else code)


def test_a_fetching_process_has_no_password(
    fetching: Fetching, scripted: Callable[..., ScriptedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POT_LAB_PASSWORD", "secret")
    server = scripted([1e6])
    link = link_to(b"data", server.url)
    fetching.expect(link)
    assert fetching.fetcher.begin(link)
    while not server.requests:
        time.sleep(0.02)
    inside = psutil.Process(fetching.started[0].pid)
    assert "POT_LAB_PASSWORD" not in inside.environ()
    assert inside.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert inside.rlimit(psutil.RLIMIT_AS)[1] < (2 << 30)
    assert inside.rlimit(psutil.RLIMIT_NOFILE)[1] == 64
