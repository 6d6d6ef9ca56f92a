"""An aggregator's custody: what the ledger wants is fetched, attested once it is held, and kept while it is wanted."""

from __future__ import annotations

import hashlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.network.duties.custody import (
    ATTESTED_AT_ONCE,
    DEAD_AFTER_S,
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    CustodyDuty,
    CustodyKeeper,
    WantedBlob,
)
from pot_lab.network.duties.duty import REPEAT_AFTER_MS
from pot_lab.store.custody import Custody, CustodyLimits, ExpectedBlob
from pot_lab.store.link_fetcher import FetchedLink, FetchLimits, FetchOutcome, LinkFetcher

ANN = b"a" * 20


def wanted_of(data: bytes, *uris: str, reference: bytes = b"order", attested: bool = False) -> WantedBlob:
    return WantedBlob(hashlib.sha256(data).digest(), len(data), ANN, reference, uris, attested)


class HeldFetcher(LinkFetcher):
    """A fetcher whose fetches end when the test says so."""

    def __init__(self, root: Path, at_once: int) -> None:
        super().__init__(root, private_links=True)
        self.at_once, self.begun, self.ends = at_once, list[Link](), list[FetchedLink]()
        self.running: list[Link] = []

    @property
    def free(self) -> int:
        return self.at_once - len(self.running)

    def begin(self, link: Link) -> bool:
        if self.free < 1 or link in self.running:
            return False
        self.begun.append(link)
        self.running.append(link)
        return True

    def end(self, link: Link, code: str = "LinkDead") -> None:
        self.running.remove(link)
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

    def bring(self, data: bytes) -> None:
        with self.custody.receive(hashlib.sha256(data).digest(), len(data)) as writer:
            writer.write(data)


@pytest.fixture
def keeping(tmp_path: Path) -> Iterator[Keeping]:
    made = Keeping(tmp_path)
    yield made
    made.keeper.close()


def test_what_is_wanted_is_expected_fetched_and_held(keeping: Keeping) -> None:
    wanted = [wanted_of(b"one", "http://a/1"), wanted_of(b"three", "http://a/3")]
    assert keeping.keeper.keep(wanted) == set()
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/1", "http://a/3"]
    keeping.bring(b"one")  # put by its owner
    keeping.bring(b"three")
    keeping.fetcher.end(keeping.fetcher.begun[0], "")
    keeping.fetcher.end(keeping.fetcher.begun[1], "")
    assert keeping.keeper.keep(wanted) == {each.blob for each in wanted}
    assert len(keeping.fetcher.begun) == 2


def test_small_blobs_go_first_and_no_more_run_than_may(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, at_once=1)
    wanted = [wanted_of(b"large" * 9, "http://a/large"), wanted_of(b"small", "http://a/small")]
    keeping.keeper.keep(wanted)
    keeping.keeper.keep(wanted)
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/small"]
    keeping.keeper.close()


def test_a_dead_link_is_tried_later_and_later_and_others_before_it(keeping: Keeping) -> None:
    keeping.fetcher.at_once = 1
    wanted = [wanted_of(b"data", "http://dead/", "http://also-dead/")]
    begun_at_s: list[float] = []
    for _ in range(400):
        before = len(keeping.fetcher.begun)
        keeping.keeper.keep(wanted)
        if len(keeping.fetcher.begun) > before:
            begun_at_s.append(keeping.now_s)
            keeping.fetcher.end(keeping.fetcher.begun[-1])
        else:
            keeping.now_s += 1.0
    tried = [link.uri for link in keeping.fetcher.begun]
    assert tried[:4] == ["http://dead/", "http://also-dead/"] * 2
    ours = [at for at, uri in zip(begun_at_s, tried, strict=True) if uri == "http://dead/"]
    waits = [later - sooner for sooner, later in itertools.pairwise(ours)]
    assert waits[0] == FIRST_RETRY_S and waits == sorted(waits) and max(waits) <= LONGEST_RETRY_S + 1


def test_a_blob_of_no_quota_is_not_fetched_until_there_is_some(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, limits=CustodyLimits(payer_bytes=5))
    first, second = wanted_of(b"12345", reference=b"one"), wanted_of(b"67890", "http://a/", reference=b"two")
    keeping.keeper.keep([first, second])
    assert keeping.fetcher.begun == []
    keeping.keeper.keep([second])
    keeping.now_s = DEAD_AFTER_S
    keeping.keeper.keep([second])
    keeping.keeper.keep([second])
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/"]
    keeping.keeper.close()


def test_what_is_dead_is_kept_for_a_while_and_then_removed(keeping: Keeping) -> None:
    wanted = [wanted_of(b"one", reference=b"1"), wanted_of(b"two", reference=b"2")]
    keeping.keeper.keep(wanted)
    keeping.bring(b"one")
    keeping.bring(b"two")
    keeping.keeper.keep(wanted[:1])
    keeping.now_s = DEAD_AFTER_S - 1
    keeping.keeper.keep(wanted[:1])
    assert keeping.custody.has(*wanted[1].blob)
    keeping.now_s = DEAD_AFTER_S
    keeping.keeper.keep(wanted[:1])
    assert not keeping.custody.has(*wanted[1].blob) and keeping.custody.has(*wanted[0].blob)


def test_a_replica_that_begins_anew_throws_nothing_away_while_it_catches_up(tmp_path: Path) -> None:
    """Its data are lost: the ledger is empty at first, and names the blobs again once history is replayed."""
    wanted = [wanted_of(b"kept")]
    before = Keeping(tmp_path)
    before.keeper.keep(wanted)
    before.bring(b"kept")
    before.keeper.close()
    again = Keeping(tmp_path)
    for now_s in range(0, int(DEAD_AFTER_S), 600):
        again.now_s = float(now_s)
        assert again.keeper.keep([]) == set()
    assert again.keeper.keep(wanted) == {wanted[0].blob}
    again.now_s = 10 * DEAD_AFTER_S
    assert again.keeper.keep(wanted) == {wanted[0].blob}
    again.keeper.close()


def test_at_rest_a_pass_asks_nothing_and_a_change_ends_the_rest(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [wanted_of(b"one")]
    keeping.keeper.keep(wanted)
    keeping.bring(b"one")
    held = keeping.keeper.keep(wanted)
    with monkeypatch.context() as patch:
        patch.setattr(keeping.custody, "_rows", None)
        patch.setattr(keeping.custody, "_changing", None)
        for _ in range(3):
            assert keeping.keeper.keep(wanted) is held
    more = [*wanted, wanted_of(b"two", "http://a/2")]
    assert keeping.keeper.keep(more) == {wanted[0].blob}
    assert [link.uri for link in keeping.fetcher.begun] == ["http://a/2"]


class Duty:
    """A duty whose keeper is in the test's hands."""

    def __init__(self, root: Path) -> None:
        self.wanted: list[WantedBlob] = []
        self.attested: list[list[ExpectedBlob]] = []
        self.woken = threading.Semaphore(0)
        self.keeping = Keeping(root)
        self.duty = CustodyDuty(lambda: list(self.wanted), self.attest, self.open_keeper, wake=self.woken.release)
        self.can_open = True

    def open_keeper(self) -> CustodyKeeper:
        if not self.can_open:
            raise OSError("no folder")
        return self.keeping.keeper

    def holds(self, blobs: set[ExpectedBlob]) -> None:
        """As if a pass had found these; no other pass comes."""
        self.can_open = False
        self.duty._held = blobs

    def attest(self, blobs: Sequence[ExpectedBlob]) -> bytes:
        self.attested.append(list(blobs))
        return b"request"


def test_what_is_held_is_attested_until_it_counts(tmp_path: Path) -> None:
    made = Duty(tmp_path)
    made.wanted = [wanted_of(b"one"), wanted_of(b"two")]
    assert made.duty.poll(0) == []
    while made.keeping.custody.missing() == []:
        pass
    made.keeping.bring(b"one")
    assert made.woken.acquire(timeout=60)
    assert made.duty.poll(1_000) == [b"request"] and made.attested == [[made.wanted[0].blob]]
    assert made.duty.poll(1_000 + REPEAT_AFTER_MS - 1) == []
    assert made.duty.poll(1_000 + REPEAT_AFTER_MS) == [b"request"]
    made.wanted[0] = made.wanted[0]._replace(attested=True)
    assert made.duty.poll(100_000) == []
    made.duty.close()


def test_many_blobs_are_attested_in_bounded_requests(tmp_path: Path) -> None:
    made = Duty(tmp_path)
    made.wanted = [wanted_of(i.to_bytes(2, "big")) for i in range(2 * ATTESTED_AT_ONCE + 1)]
    made.holds({each.blob for each in made.wanted})
    assert len(made.duty.poll(0)) == 3
    made.duty.close()
    assert [len(each) for each in made.attested] == [ATTESTED_AT_ONCE, ATTESTED_AT_ONCE, 1]


def test_a_blob_that_two_references_name_is_attested_once(tmp_path: Path) -> None:
    made = Duty(tmp_path)
    made.wanted = [wanted_of(b"one", reference=b"1"), wanted_of(b"one", reference=b"2")]
    made.holds({made.wanted[0].blob})
    made.duty.poll(0)
    made.duty.close()
    assert made.attested == [[made.wanted[0].blob]]


def test_a_folder_that_cannot_be_opened_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = Duty(tmp_path / "custody")
    made.wanted = [wanted_of(b"one")]
    made.can_open = False
    made.duty.poll(0)
    while "custody_failed" not in caplog.text:
        pass
    made.can_open = True
    while made.keeping.custody.missing() == []:
        pass
    made.duty.close()


def test_a_link_becomes_an_attestation_through_real_processes(tmp_path: Path) -> None:
    data = os.urandom(200_000)
    (tmp_path / "origin").write_bytes(data)
    wanted = [wanted_of(data, "http://127.0.0.1:1/dead", f"file://{tmp_path / 'origin'}")]
    attested: list[ExpectedBlob] = []
    held = threading.Semaphore(0)

    def attest(blobs: Sequence[ExpectedBlob]) -> bytes:
        attested.extend(blobs)
        return b"request"

    def open_keeper() -> CustodyKeeper:
        root = tmp_path / "custody"
        return CustodyKeeper(
            Custody(root), LinkFetcher(root, private_links=True, limits=FetchLimits(at_once=1, base_s=600.0))
        )

    duty = CustodyDuty(lambda: wanted, attest, open_keeper, wake=held.release)
    duty.poll(0)
    assert held.acquire(timeout=300)
    assert duty.poll(1) == [b"request"] and attested == [wanted[0].blob]
    duty.close()
    assert (tmp_path / "custody" / hashlib.sha256(data).hexdigest()).read_bytes() == data
