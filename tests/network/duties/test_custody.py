"""An aggregator's custody: what the ledger wants is fetched, attested once it is held, and kept while it is wanted."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.network.duties.custody import ATTESTED_AT_ONCE, CustodyDuty, Standing
from pot_lab.network.duties.custody_keeper import (
    DEAD_AFTER_S,
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    REFUSED_AGAIN_S,
    SMALL_BYTES,
    CustodyKeeper,
    WantedBlob,
    Wants,
)
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.store.custody import Custody, CustodyLimits, ExpectedBlob
from pot_lab.store.link_fetcher import MAX_LINKS, FetchedLink, FetchLimits, FetchOutcome, LinkFetcher

ANN = b"a" * 20


def wanted_of(data: bytes, *uris: str, reference: bytes = b"order") -> WantedBlob:
    return WantedBlob(hashlib.sha256(data).digest(), len(data), ANN, reference, uris)


def wants_of(blobs: Iterable[WantedBlob], before: Wants | None = None) -> Wants:
    """By reference; a tuple that did not change is the one before."""
    found = defaultdict(list)
    for each in blobs:
        found[each.reference].append(each)
    new = {reference: tuple(each) for reference, each in found.items()}
    return {key: (before or {})[key] if (before or {}).get(key) == value else value for key, value in new.items()}


class HeldFetcher(LinkFetcher):
    """A fetcher whose fetches end when the test says so."""

    def __init__(self, root: Path, at_once: int) -> None:
        super().__init__(root, private_links=True)
        self.at_once, self.begun, self.ends = at_once, list[Link](), list[FetchedLink]()
        self.processes: list[list[Link]] = []
        self.together: list[int] = []

    @property
    def free(self) -> int:
        return self.at_once - len(self.processes)

    @property
    def running(self) -> int:
        return len(self.processes)

    def follows(self, link: Link) -> bool:
        return any(link in each for each in self.processes)

    def begin(self, *links: Link) -> bool:
        if self.free < 1 or any(map(self.follows, links)):
            return False
        self.begun += links
        self.together.append(len(links))
        self.processes.append(list(links))
        return True

    def end(self, link: Link, code: str = "LinkDead") -> None:
        for each in list(self.processes):
            if link in each:
                each.remove(link)
                if not each:
                    self.processes.remove(each)
        self.ends.append(FetchedLink(link, FetchOutcome(code=code)))

    def poll(self) -> list[FetchedLink]:
        found, self.ends = self.ends, []
        return found


class Keeping:
    """A keeper over a real custody, with fetches and time that the test drives."""

    def __init__(self, root: Path, at_once: int = 2, limits: CustodyLimits | None = None) -> None:
        self.now_s = 0.0
        self.custody = Custody(root, limits)
        self.fetcher = HeldFetcher(root, at_once)
        self.keeper = CustodyKeeper(self.custody, self.fetcher, lambda: self.now_s)
        self.wants: Wants = {}
        self.found: set[ExpectedBlob] = set()

    def keep(self, wanted: Iterable[WantedBlob]) -> set[ExpectedBlob]:
        """A pass; returns all that was found to be held so far."""
        self.wants = wants_of(wanted, self.wants)
        self.now_s += 1.0
        self.found |= self.keeper.keep(self.wants)
        return self.found

    def bring(self, data: bytes) -> None:
        with self.custody.receive(hashlib.sha256(data).digest(), len(data)) as writer:
            writer.write(data)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    made.keeper.close()


def test_what_is_wanted_is_expected_fetched_and_held(keeping: Keeping) -> None:
    wanted = [wanted_of(b"one", "http://a/1"), wanted_of(b"three", "http://a/3", reference=b"other")]
    assert keeping.keep(wanted) == set()
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/1", "http://a/3"]
    keeping.bring(b"one")  # put by its owner
    keeping.bring(b"three")
    keeping.fetcher.end(keeping.fetcher.begun[0], "")
    keeping.fetcher.end(keeping.fetcher.begun[1], "")
    assert keeping.keep(wanted) == {each.blob for each in wanted}
    assert len(keeping.fetcher.begun) == 2


def test_small_blobs_go_first_and_no_more_run_than_may(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, at_once=1)
    wanted = [wanted_of(b"large" * 9, "http://a/large"), wanted_of(b"small", "http://a/small", reference=b"other")]
    keeping.keep(wanted)
    keeping.keep(wanted)
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/small"]
    keeping.keeper.close()


def test_small_links_of_one_reference_share_a_process(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, at_once=3)
    large = WantedBlob(bytes(32), SMALL_BYTES + 1, ANN, b"order", ("http://a/large",))
    small = [wanted_of(bytes([i]) * (i + 1), f"http://a/{i}") for i in range(MAX_LINKS + 1)]
    keeping.keep([large, *small, wanted_of(b"x", "http://b/", reference=b"other")])
    assert sorted(keeping.fetcher.together) == [1, 1, MAX_LINKS]
    keeping.keeper.close()


def test_small_blobs_that_come_one_after_the_other_are_taken_together(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, at_once=9)
    wanted = [wanted_of(bytes([i]), f"http://a/{i}") for i in range(5)]
    keeping.keep(wanted[:1])
    for count in (2, 3, 5):
        keeping.now_s -= 0.9
        keeping.keep(wanted[:count])
    keeping.keep([*wanted, wanted_of(b"x", "http://b/", reference=b"other")])
    assert sorted(keeping.fetcher.together) == [1, 1, 4]
    keeping.keeper.close()


def test_a_link_that_failed_has_a_process_of_its_own(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, at_once=9)
    wanted = [wanted_of(bytes([i]), f"http://a/{i}") for i in range(3)]
    keeping.keep(wanted)
    for link in list(keeping.fetcher.begun):
        keeping.fetcher.end(link, "FetcherDied")
    keeping.keep(wanted)
    keeping.now_s += FIRST_RETRY_S
    keeping.keep(wanted)
    assert keeping.fetcher.together == [3, 1, 1, 1]
    keeping.keeper.close()


def test_a_dead_link_is_tried_later_and_later_and_others_before_it(keeping: Keeping) -> None:
    keeping.fetcher.at_once = 1
    wanted = [wanted_of(b"data", "http://dead/", "http://also-dead/")]
    begun_at_s: list[float] = []
    for _ in range(400):
        before = len(keeping.fetcher.begun)
        keeping.keep(wanted)
        if len(keeping.fetcher.begun) > before:
            begun_at_s.append(keeping.now_s)
            keeping.fetcher.end(keeping.fetcher.begun[-1])
            keeping.now_s -= 1.0
        else:
            keeping.now_s += 1.0
    tried = [link.uri for link in keeping.fetcher.begun]
    assert tried[:4] == ["http://dead/", "http://also-dead/"] * 2
    ours = [at for at, uri in zip(begun_at_s, tried, strict=True) if uri == "http://dead/"]
    waits = [later - sooner for sooner, later in itertools.pairwise(ours)]
    assert FIRST_RETRY_S <= waits[0] <= FIRST_RETRY_S + 2
    assert waits == sorted(waits) and max(waits) <= LONGEST_RETRY_S + 2


def test_a_link_that_the_ledger_learns_later_is_followed(keeping: Keeping) -> None:
    keeping.keep([wanted_of(b"data", "http://dead/")])
    keeping.fetcher.end(keeping.fetcher.begun[0])
    keeping.keep([wanted_of(b"data", "http://dead/", "http://peer/")])
    assert [link.uri for link in keeping.fetcher.begun] == ["http://dead/", "http://peer/"]


def test_a_blob_of_no_quota_is_not_fetched_until_there_is_some(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, limits=CustodyLimits(payer_bytes=5))
    first, second = wanted_of(b"12345", reference=b"one"), wanted_of(b"67890", "http://a/", reference=b"two")
    keeping.keep([first, second])
    assert keeping.fetcher.begun == []
    keeping.keep([second])
    keeping.now_s += DEAD_AFTER_S
    keeping.keep([second])
    keeping.keep([second])
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/"]
    keeping.keeper.close()


def test_what_was_refused_is_tried_again_after_a_while_and_told_once(
    keeping: Keeping, caplog: pytest.LogCaptureFixture
) -> None:
    keeping.custody.limits = CustodyLimits(payer_bytes=3)
    wanted = [wanted_of(b"data", "http://a/")]
    for _ in range(3):
        keeping.keep(wanted)
        keeping.now_s += REFUSED_AGAIN_S
    assert keeping.fetcher.begun == [] and caplog.text.count("custody_refused") == 1
    keeping.custody.limits = CustodyLimits()
    keeping.keep(wanted)
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/"]


def test_what_is_dead_is_kept_for_a_while_and_then_removed(keeping: Keeping) -> None:
    wanted = [wanted_of(b"one", reference=b"1"), wanted_of(b"two", reference=b"2")]
    keeping.keep(wanted)
    keeping.bring(b"one")
    keeping.bring(b"two")
    keeping.keep(wanted[:1])
    keeping.now_s += DEAD_AFTER_S - 2
    keeping.keep(wanted[:1])
    assert keeping.custody.has(*wanted[1].blob)
    keeping.keep(wanted[:1])
    assert not keeping.custody.has(*wanted[1].blob) and keeping.custody.has(*wanted[0].blob)


def test_what_is_named_again_in_time_is_kept(keeping: Keeping) -> None:
    wanted = [wanted_of(b"one")]
    keeping.keep(wanted)
    keeping.bring(b"one")
    keeping.keep([])
    keeping.now_s += DEAD_AFTER_S / 2
    keeping.found.clear()
    assert keeping.keep(wanted) == {wanted[0].blob}
    keeping.now_s += DEAD_AFTER_S
    keeping.keep(wanted)
    assert keeping.custody.has(*wanted[0].blob)


def test_a_replica_that_begins_anew_throws_nothing_away_while_it_catches_up(tmp_path: Path) -> None:
    """Its data are lost: the ledger is empty at first, and names the blobs again once history is replayed."""
    wanted = [wanted_of(b"kept")]
    before = Keeping(tmp_path)
    before.keep(wanted)
    before.bring(b"kept")
    before.keeper.close()
    again = Keeping(tmp_path)
    for now_s in range(0, int(DEAD_AFTER_S), 600):
        again.now_s = float(now_s)
        assert again.keep([]) == set()
    assert again.keep(wanted) == {wanted[0].blob}
    again.now_s = 10 * DEAD_AFTER_S
    assert again.keep(wanted) == {wanted[0].blob} and again.custody.has(*wanted[0].blob)
    again.keeper.close()


def test_what_an_earlier_process_kept_is_removed_where_nothing_names_it(tmp_path: Path) -> None:
    before = Keeping(tmp_path)
    before.keep([wanted_of(b"kept")])
    before.bring(b"kept")
    before.keeper.close()
    again = Keeping(tmp_path)
    again.keep([])
    again.now_s += DEAD_AFTER_S
    again.keep([])
    assert again.custody.held() == set() and again.custody.references() == set()
    again.keeper.close()


def test_a_blob_whose_file_is_gone_is_fetched_again(tmp_path: Path) -> None:
    wanted = [wanted_of(b"kept", "http://a/")]
    before = Keeping(tmp_path)
    before.keep(wanted)
    before.bring(b"kept")
    before.keeper.close()
    (tmp_path / wanted[0].digest.hex()).unlink()
    again = Keeping(tmp_path)
    assert again.keep(wanted) == set()
    assert [link.uri for link in again.fetcher.begun] == ["http://a/"]
    again.keeper.close()


def test_at_rest_a_pass_asks_nothing_and_a_change_asks_of_what_changed(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [wanted_of(b"one")]
    keeping.keep(wanted)
    keeping.bring(b"one")
    assert keeping.keep(wanted) == {wanted[0].blob}
    asked: list[bytes] = []
    expect = keeping.custody.expect
    with monkeypatch.context() as patch:
        patch.setattr(keeping.custody, "_rows", None)
        patch.setattr(keeping.custody, "_changing", None)
        for _ in range(3):
            assert keeping.keeper.keep(keeping.wants) == set()
    monkeypatch.setattr(keeping.custody, "expect", lambda *a, **k: asked.append(k["reference"]) or expect(*a, **k))
    keeping.keep([*wanted, wanted_of(b"two", "http://a/2", reference=b"other")])
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/2"] and asked == [b"other"]


class Duty:
    """A duty whose keeper and ledger are in the test's hands."""

    def __init__(self, root: Path) -> None:
        self.now: Wants = {}
        self.standings: dict[ExpectedBlob, Standing] = {}
        self.attested: list[list[ExpectedBlob]] = []
        self.woken = threading.Semaphore(0)
        self.keeping = Keeping(root)
        self.duty = CustodyDuty(self, self.attest, self.open_keeper, wake=self.woken.release)
        self.can_open = True

    def want(self, *wanted: WantedBlob) -> None:
        self.now = wants_of(wanted, self.now)

    def wants(self) -> Wants:
        return self.now

    def standing(self, blob: ExpectedBlob) -> Standing:
        return self.standings.get(blob, Standing.DUE)

    def open_keeper(self) -> CustodyKeeper:
        if not self.can_open:
            raise OSError("no folder")
        return self.keeping.keeper

    def holds(self, wanted: Sequence[WantedBlob]) -> None:
        """As if a pass had found these; no other pass comes."""
        self.can_open = False
        self.duty._news = {each.blob for each in wanted}

    def attest(self, blobs: Sequence[ExpectedBlob]) -> bytes:
        self.attested.append(list(blobs))
        return b"request"


def test_what_is_held_is_attested_until_it_counts(tmp_path: Path) -> None:
    made, one = Duty(tmp_path), wanted_of(b"one")
    made.want(one, wanted_of(b"two"))
    assert made.duty.poll(0) == []
    while one.blob not in made.keeping.custody.missing():
        pass
    made.keeping.bring(b"one")
    assert made.woken.acquire(timeout=240)
    assert made.duty.poll(1_000) == [b"request"] and made.attested == [[one.blob]]
    assert made.duty.poll(1_000 + REPEAT_AFTER_MS - 1) == []
    assert made.duty.poll(1_000 + REPEAT_AFTER_MS) == [b"request"]
    made.standings[one.blob] = Standing.OVER
    assert made.duty.poll(100_000) == []
    made.standings[one.blob] = Standing.DUE
    assert made.duty.poll(200_000) == []  # it asks no more of what is over
    made.duty.close()


def test_without_a_seat_nothing_is_attested_until_there_is_one(tmp_path: Path) -> None:
    made, one = Duty(tmp_path), wanted_of(b"one")
    made.want(one)
    made.standings[one.blob] = Standing.LATER
    made.holds([one])
    assert made.duty.poll(0) == [] and made.duty.poll(100_000) == []
    made.standings[one.blob] = Standing.DUE
    assert made.duty.poll(100_001) == [b"request"]
    made.duty.close()


def test_many_blobs_are_attested_in_bounded_requests(tmp_path: Path) -> None:
    made = Duty(tmp_path)
    wanted = [wanted_of(i.to_bytes(2, "big")) for i in range(2 * ATTESTED_AT_ONCE + 1)]
    made.want(*wanted)
    made.holds(wanted)
    assert len(made.duty.poll(0)) == 3
    made.duty.close()
    assert [len(each) for each in made.attested] == [ATTESTED_AT_ONCE, ATTESTED_AT_ONCE, 1]


def test_a_blob_that_two_references_name_is_attested_once(tmp_path: Path) -> None:
    made = Duty(tmp_path)
    wanted = [wanted_of(b"one", reference=b"1"), wanted_of(b"one", reference=b"2")]
    made.want(*wanted)
    made.holds(wanted)
    made.duty.poll(0)
    made.duty.close()
    assert made.attested == [[wanted[0].blob]]


def test_a_folder_that_cannot_be_opened_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Duty(tmp_path / "custody")
    made.want(wanted_of(b"one"))
    made.can_open = False
    made.duty.poll(0)
    while "custody_failed" not in caplog.text:
        pass
    made.can_open = True
    while made.keeping.custody.missing() == []:
        pass
    made.duty.close()


def test_links_become_an_attestation_through_real_processes(tmp_path: Path) -> None:
    made = Duty(tmp_path / "unused")
    root = tmp_path / "custody"
    fetcher = LinkFetcher(root, private_links=True, limits=FetchLimits(at_once=1, base_s=600.0))
    made.keeping.keeper.close()
    made.keeping.keeper = CustodyKeeper(Custody(root), fetcher)
    wanted = []
    for name in ("one", "two"):
        data = os.urandom(200_000)
        (tmp_path / name).write_bytes(data)
        wanted.append(wanted_of(data, "http://127.0.0.1:1/dead", f"file://{tmp_path / name}"))
    made.want(*wanted)
    made.duty.poll(0)
    while sum(map(len, made.attested)) < 2:
        assert made.woken.acquire(timeout=300)
        made.duty.poll(1)
    made.duty.close()
    assert {blob for each in made.attested for blob in each} == {each.blob for each in wanted}
    for each in wanted:
        assert hashlib.sha256((root / each.digest.hex()).read_bytes()).digest() == each.digest
