"""Copies of a blob in several places: any of them will do, and none can keep a blob that another place has."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pot_lab.crypto.link import Link
from pot_lab.store import LinkDead, Store, TooSlow
from pot_lab.store.copies import MOST_COPIES, REST_S, Copies
from tests.store.conftest import ScriptedServer, ServerProcess

DATA = os.urandom(100_000)
DIGEST = hashlib.sha256(DATA).digest()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
DEAD = "http://127.0.0.1:1"
NOWHERE = Link(digest=DIGEST, size_bytes=len(DATA), uri=f"{DEAD}/gone")


def serving(*urls: str) -> Callable[[], list[str]]:
    return lambda: list(urls)


def fetched(store: Store, link: Link, timeout_s: float, cache: Path | None) -> bytes:
    return store.fetch(link, limit_bytes=len(DATA), timeout_s=timeout_s, cache_dir=cache)


@pytest.fixture(params=["memory", "cache"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "cache" if request.param == "cache" else None


@pytest.fixture
def good(serve: Callable[..., ServerProcess]) -> ServerProcess:
    server = serve()
    assert server.request("PUT", "/" + DIGEST.hex(), DATA)[0] == 201
    return server


def test_each_blob_has_its_own_order_of_places_and_all_are_asked_alike() -> None:
    copies = Copies(serving(*(f"http://{i}" for i in range(4))))
    firsts: Counter[str] = Counter()
    for number in range(400):
        link = Link(digest=hashlib.sha256(b"%d" % number).digest(), size_bytes=1, uri="http://origin/")
        places = copies.of(link)
        assert copies.of(link) == places and len({each.uri for each in places}) == 4
        assert all(each.uri.endswith(link.digest.hex()) and each.digest == link.digest for each in places)
        firsts[places[0].uri.rpartition("/")[0]] += 1
    assert len(firsts) == 4 and min(firsts.values()) > 60


def test_one_that_did_not_answer_is_asked_last_for_a_while() -> None:
    now_s = [0.0]
    copies = Copies(serving("http://a", "http://b", "http://c"), clock_s=lambda: now_s[0])
    first, *others = copies.of(NOWHERE)
    copies.rest(first)
    assert copies.of(NOWHERE) == [*others, first]
    now_s[0] = REST_S
    assert copies.of(NOWHERE) == [first, *others]


def test_a_copy_stands_in_for_a_dead_link(good: ServerProcess, cache: Path | None) -> None:
    store = Store(DEAD, copies=serving(good.url))
    assert fetched(store, NOWHERE, 60, cache) == DATA


def test_where_no_copy_is_the_link_is_followed(
    good: ServerProcess, serve: Callable[..., ServerProcess], cache: Path | None
) -> None:
    link = Link(digest=DIGEST, size_bytes=len(DATA), uri=f"{good.url}/{DIGEST.hex()}")
    assert fetched(Store(DEAD, copies=serving(DEAD, serve().url)), link, 60, cache) == DATA
    other = Link(digest=bytes(32), size_bytes=1, uri=f"{DEAD}/other")
    with pytest.raises(LinkDead):
        fetched(Store(DEAD, copies=serving(DEAD, good.url)), other, 60, cache)


@pytest.mark.parametrize(
    "answer",
    [
        [HEAD % len(DATA) + bytes(len(DATA))],
        [HEAD % (len(DATA) + 1) + DATA + b"x"],
        [HEAD % 3 + b"abc"],
        [NOT_FOUND],
        [b"rubbish"],
        [HEAD % len(DATA) + b"x" * 50_000],
    ],
    ids=["other bytes", "more bytes", "fewer bytes", "not there", "rubbish", "breaks off"],
)
def test_a_copy_that_lies_costs_nothing_but_the_next_question(
    good: ServerProcess, scripted: Callable[..., ScriptedServer], cache: Path | None, answer: list[bytes | float]
) -> None:
    lying = scripted(answer).url.removesuffix("/blob")
    for number in range(8):  # whichever is asked first
        store = Store(DEAD, copies=serving(f"{lying}/{number}", good.url))
        assert fetched(store, NOWHERE, 60, cache / str(number) if cache else None) == DATA


def test_a_copy_that_drips_takes_its_part_of_the_time_only_and_rests_then(
    good: ServerProcess, scripted: Callable[..., ScriptedServer], cache: Path | None
) -> None:
    slow = scripted([HEAD % len(DATA) + DATA[:9], 1e6])
    urls = [f"{slow.url.removesuffix('/blob')}/{number}" for number in range(2)]
    store = Store(DEAD, copies=serving(*urls, good.url))
    assert fetched(store, NOWHERE, 30, cache) == DATA
    asked = len(slow.requests)
    assert store.fetch(NOWHERE, limit_bytes=len(DATA), timeout_s=60) == DATA
    assert len(slow.requests) == asked


def test_where_a_copy_was_too_slow_and_the_link_is_dead_more_time_may_help(
    scripted: Callable[..., ScriptedServer], cache: Path | None
) -> None:
    slow = scripted([HEAD % len(DATA) + DATA[:9], 1e6])
    store = Store(DEAD, copies=serving(slow.url.removesuffix("/blob")))
    with pytest.raises(TooSlow):
        fetched(store, NOWHERE, 4, cache)


def test_only_so_many_places_are_asked() -> None:
    copies = Copies(serving(*(f"http://{i}" for i in range(100))))
    assert len(copies.of(NOWHERE)) == MOST_COPIES


def test_what_one_copy_sent_is_not_fetched_again_from_the_next(
    good: ServerProcess, scripted: Callable[..., ScriptedServer], cache: Path | None
) -> None:
    half = scripted([HEAD % len(DATA) + DATA[:50_000]])
    rest = scripted([b"HTTP/1.1 206 Partial Content\r\nContent-Length: 50000\r\n"
                     b"Content-Range: bytes 50000-99999/100000\r\n\r\n" + DATA[50_000:]])  # fmt: skip
    store = Store(DEAD, copies=serving(half.url.removesuffix("/blob"), rest.url.removesuffix("/blob")))
    first = store._copies.of(NOWHERE)[0].uri
    if not first.startswith(half.url.removesuffix("/blob")):
        store._copies.rest(store._copies.of(NOWHERE)[0])
    assert fetched(store, NOWHERE, 60, cache) == DATA
    assert [b"bytes=50000-" in each for each in rest.requests] == [True]


def test_a_copy_leads_to_no_private_address_unless_the_network_allows_it(
    good: ServerProcess, cache: Path | None
) -> None:
    store = Store("https://store.invalid", private_links=False, copies=serving(good.url))
    with pytest.raises(LinkDead):
        fetched(store, Link(digest=DIGEST, size_bytes=len(DATA), uri="https://origin.invalid/"), 30, cache)
