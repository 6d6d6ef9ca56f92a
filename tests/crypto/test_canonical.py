"""One value has one encoding: what is not exactly it is refused, so a hash over bytes is a hash over the value."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.crypto.canonical import Record, Wide, decode, encode, keccak256, sha256, tagged_hash
from pot_lab.errors import Malformed, Oversize


class Inner(Record, frozen=True):
    name: str
    data: bytes


class Sample(Record, frozen=True):
    number: int
    inner: Inner
    items: tuple[int, ...]
    extra: str = "default"


samples = st.builds(
    Sample,
    number=st.integers(-(2**63), 2**64 - 1),
    inner=st.builds(Inner, name=st.text(max_size=8), data=st.binary(max_size=64)),
    items=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=8).map(tuple),
    extra=st.text(max_size=8),
)
VALUE = Sample(5, Inner("a", b"b"), (1, 2), "x")


@given(samples)
def test_a_record_comes_back_from_its_bytes(value: Sample) -> None:
    assert decode(encode(value), Sample, limit_bytes=4_096) == value


@given(samples, st.data())
def test_every_change_of_one_byte_gives_another_value_or_none(value: Sample, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert decode(bytes(raw), Sample, limit_bytes=4_096) != value
    except Malformed:
        pass


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_or_are_an_encoding(raw: bytes) -> None:
    try:
        value = decode(raw, Sample, limit_bytes=200)
    except Malformed:
        return
    assert encode(value) == raw


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(msgspec.msgpack.encode([5, ["a", b"b"], [1, 2]]), id="a defaulted field left out"),
        pytest.param(msgspec.msgpack.encode([5, ["a", b"b"], [1, 2], "x", 1]), id="a field too many"),
        pytest.param(encode(VALUE) + b"\x00", id="trailing bytes"),
        pytest.param(encode(VALUE)[:-1], id="cut short"),
        pytest.param(encode(VALUE).replace(b"\x05", b"\xcc\x05", 1), id="an integer wider than it needs"),
        pytest.param(encode(VALUE).replace(b"\x94", b"\xdc\x00\x04", 1), id="an array header wider than it needs"),
        pytest.param(msgspec.msgpack.encode([5.0, ["a", b"b"], [], "x"]), id="a float for an integer"),
        pytest.param(msgspec.msgpack.encode([True, ["a", b"b"], [], "x"]), id="a truth value for an integer"),
        pytest.param(b"\x94\x05\x92\xa2\xff\xfe\xc4\x01b\x90\xa1x", id="text that is no UTF-8"),
        pytest.param(b"\x91" * 3_000, id="nested too deep"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_bytes_that_encode_would_not_have_written_are_refused(raw: bytes) -> None:
    with pytest.raises(Malformed, match="Sample"):
        decode(raw, Sample, limit_bytes=4_096)


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    raw = encode(VALUE)
    assert decode(raw, Sample, limit_bytes=len(raw)) == VALUE
    with pytest.raises(Oversize, match=f"{len(raw)} bytes"):
        decode(raw, Sample, limit_bytes=len(raw) - 1)
    with pytest.raises(Oversize):
        decode(b"\xc1" * 100, Sample, limit_bytes=99)


def test_known_bytes_and_hashes() -> None:
    assert encode(VALUE).hex() == "940592a161c40162920102a178"
    assert tagged_hash("pot-lab/example/1", b"one", b"").hex() == (
        "3cf44c6254a61fb2c7dac2c5b96c8c635b984539236aa038e6099c80d2076892"
    )
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"abc").hex() == "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
    assert sha256(b"abc") == hashlib.sha256(b"abc").digest()


@given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
def test_no_two_lists_of_parts_share_a_hash(a: list[bytes], b: list[bytes]) -> None:
    assert (tagged_hash("t", *a) == tagged_hash("t", *b)) == (a == b)


@given(st.binary(max_size=20), st.text("abc/", max_size=4), st.text("abc/", max_size=4))
def test_a_tag_separates_domains(part: bytes, a: str, b: str) -> None:
    assert (tagged_hash(a, part) == tagged_hash(b, part)) == (a == b)


class Sum(Record, frozen=True):
    total: Wide


@given(st.integers(-(1 << 63), (1 << 128) - 1))
def test_a_wide_integer_comes_back_and_has_one_encoding(value: int) -> None:
    raw = encode(Sum(Wide(value)))
    found = decode(raw, Sum, limit_bytes=100)
    assert found == Sum(Wide(value)) and type(found.total) is Wide
    if value < 1 << 64:
        assert raw == encode((value,)), "within 64 bits it is encoded as any integer"


@pytest.mark.parametrize(
    "raw",
    [
        encode((b"",)),
        encode((b"\x01" * 8,)),
        encode((b"\x00" + b"\x01" * 8,)),
        encode((b"\x01" * 17,)),
        encode((True,)),
        encode((None,)),
        encode(("1",)),
        msgspec.msgpack.encode([1.0]),
    ],
)
def test_what_is_no_wide_integers_encoding_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed, match="Sum"):
        decode(raw, Sum, limit_bytes=100)


def test_sums_and_differences_of_wide_integers_are_wide() -> None:
    large = Wide(1 << 64)
    for value in (large + 1, 1 + large, large - 1, sum([large, large]), large.__add__(large)):
        assert type(value) is Wide
    assert (large + 1 - 1, sum([large, 5]), large - large) == (1 << 64, (1 << 64) + 5, 0)


def test_nothing_else_is_encoded_by_chance() -> None:
    with pytest.raises(TypeError, match="no canonical bytes for a object"):
        encode((object(),))
    with pytest.raises(OverflowError):
        encode(1 << 64)
