"""Which order is meant by the first digits of its id."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from pot_lab.notebook.errors import AmbiguousOrder, BadArgument, NoSuchOrder
from pot_lab.notebook.order_ids import match_order_id

FIRST, SECOND, OTHER = (bytes.fromhex(start + "00" * 30) for start in ("abcd", "abce", "1234"))
KNOWN = [FIRST, SECOND, OTHER]


def match(text: object, known: Collection[bytes]) -> bytes:
    return match_order_id(text, lambda: known)


@pytest.mark.parametrize("text", ["1", "1234", "0x12", "0X12".lower(), "1234" + "0" * 59])
def test_enough_digits_are_an_order(text: str) -> None:
    assert match(text, KNOWN) == OTHER


def test_upper_case_digits_are_the_same() -> None:
    assert match("ABCE", KNOWN) == SECOND


def test_a_whole_id_is_not_looked_for() -> None:
    def never() -> list[bytes]:
        raise AssertionError("orders were listed")

    for text in ("0x" + "5a" * 32, "5A" * 32, bytes([0x5A] * 32)):
        assert match_order_id(text, never) == bytes([0x5A] * 32)


def test_the_beginning_counts_and_not_the_middle() -> None:
    with pytest.raises(NoSuchOrder):
        match("bcd", KNOWN)


def test_an_ambiguous_beginning_is_refused_with_the_candidates() -> None:
    with pytest.raises(AmbiguousOrder) as refused:
        match("abc", KNOWN)
    assert str(refused.value).endswith("(seen: abc, wanted: one of abcd00000000, abce00000000)")


def test_an_unknown_beginning_is_refused_with_what_is_there() -> None:
    with pytest.raises(NoSuchOrder) as refused:
        match("77", KNOWN)
    assert str(refused.value).endswith("(seen: 77, wanted: one of abcd00000000, abce00000000, 123400000000)")
    with pytest.raises(NoSuchOrder, match="which has none yet"):
        match("77", [])


def test_of_many_candidates_eight_are_shown_and_the_rest_counted() -> None:
    with pytest.raises(AmbiguousOrder) as refused:
        match("a", [bytes([0xA0, number]) for number in range(10)])
    assert str(refused.value).count("a00") == 8 and str(refused.value).endswith(" or 2 more)")
    with pytest.raises(AmbiguousOrder) as refused:
        match("a", [bytes([0xA0, number]) for number in range(8)])
    assert str(refused.value).endswith("a007)")


@pytest.mark.parametrize("text", ["", "0x", "xyz", "12 34", "0" * 65, "zz" * 32, b"short", 5, None])
def test_what_is_no_id_is_refused(text: object) -> None:
    with pytest.raises(BadArgument, match="up to 64 hexadecimal digits"):
        match(text, KNOWN)
