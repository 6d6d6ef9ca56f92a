"""Secret sharing: any `threshold` shares give the secret, fewer give nothing that can be checked."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.shamir import BadShares, Share, combine, split


@given(st.binary(min_size=1, max_size=40), st.integers(1, 8), st.integers(0, 8), st.randoms(use_true_random=False))
def test_any_threshold_of_the_shares_gives_the_secret(
    secret: bytes, threshold: int, more: int, source: random.Random
) -> None:
    shares = split(secret, threshold, threshold + more, source.randbytes)
    assert [share.index for share in shares] == list(range(1, threshold + more + 1))
    for _ in range(5):
        assert combine(source.sample(shares, threshold)) == secret
    assert combine(shares) == secret, "more than enough is as good"


def test_every_choice_of_three_of_five_gives_the_secret() -> None:
    shares = split(b"test-data key of thirty-two byte", 3, 5, random.Random(1).randbytes)
    for some in itertools.permutations(shares, 3):
        assert combine(some) == b"test-data key of thirty-two byte"


def test_the_largest_network_can_share_a_secret() -> None:
    shares = split(b"key", 85, 255, random.Random(2).randbytes)
    assert combine(shares[-85:]) == b"key"


@pytest.mark.parametrize("secret", [0, 255])
def test_fewer_shares_than_the_threshold_are_uniform_whatever_the_secret(secret: int) -> None:
    # Exact, not sampled: over all coefficients of one byte, two of three shares take every pair of values once.
    seen = Counter[tuple[int, int]]()
    for a, b in itertools.product(range(256), range(256)):
        coefficients = iter((bytes([a]), bytes([b])))
        one, two, _ = split(bytes([secret]), 3, 3, lambda _count, c=coefficients: next(c))
        seen[one.value[0], two.value[0]] += 1
    assert len(seen) == 1 << 16 and set(seen.values()) == {1}


@given(st.binary(min_size=1, max_size=16), st.integers(2, 6), st.randoms(use_true_random=False), st.integers(1, 255))
def test_a_false_share_gives_a_wrong_secret_and_no_error(
    secret: bytes, threshold: int, source: random.Random, flip: int
) -> None:
    shares = split(secret, threshold, threshold, source.randbytes)
    false = Share(shares[0].index, bytes([shares[0].value[0] ^ flip]) + shares[0].value[1:])
    assert combine([false, *shares[1:]]) != secret


def test_a_known_sharing() -> None:
    # f(x) = 42 + 7 x over GF(2^8): f(1) = 42 ^ 7, f(2) = 42 ^ 14, f(3) = 42 ^ 9
    shares = split(b"\x2a", 2, 3, lambda count: b"\x07" * count)
    assert shares == [Share(1, b"\x2d"), Share(2, b"\x24"), Share(3, b"\x23")]


def test_the_field_is_that_of_aes() -> None:
    # FIPS 197, section 4.2: {57} x {83} = {c1}, so the line through zero of slope 0x57 passes (0x83, 0xc1).
    shares = split(b"\x00", 2, 0x83, lambda count: b"\x57" * count)
    assert shares[0x83 - 1] == Share(0x83, b"\xc1")


@pytest.mark.parametrize(
    ("threshold", "count", "secret"), [(0, 3, b"s"), (4, 3, b"s"), (2, 256, b"s"), (1, 0, b"s"), (2, 3, b"")]
)
def test_impossible_sharings_are_refused(threshold: int, count: int, secret: bytes) -> None:
    with pytest.raises(BadShares):
        split(secret, threshold, count, random.Random(3).randbytes)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [Share(1, b"a"), Share(1, b"a")],
        [Share(1, b"a"), Share(2, b"ab")],
        [Share(0, b"a")],
        [Share(256, b"a")],
        [Share(-1, b"a"), Share(2, b"a")],
    ],
)
def test_shares_that_do_not_belong_together_are_refused(shares: list[Share]) -> None:
    with pytest.raises(BadShares):
        combine(shares)
