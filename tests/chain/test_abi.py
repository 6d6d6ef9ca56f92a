"""The ABI codec says what `eth_abi` says, and stands up to bytes that no contract would return."""

from __future__ import annotations

import eth_abi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.chain.abi import decode, encode
from pot_lab.chain.contract import interface
from pot_lab.errors import Malformed
from pot_lab.protocol.settlement import NotEncodable

_SCALARS = {
    "uint8": st.integers(0, 2**8 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "uint256": st.integers(0, 2**256 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=40),
}


def _typed(depth: int) -> st.SearchStrategy[tuple[str, st.SearchStrategy[object]]]:
    scalar = st.sampled_from(sorted(_SCALARS)).map(lambda name: (name, _SCALARS[name]))
    if depth == 0:
        return scalar
    inner = _typed(depth - 1)
    lists = inner.map(lambda pair: (f"{pair[0]}[]", st.lists(pair[1], max_size=3)))
    fixed = inner.map(lambda pair: (f"{pair[0]}[2]", st.lists(pair[1], min_size=2, max_size=2)))
    tuples = st.lists(inner, min_size=1, max_size=3).map(
        lambda pairs: (f"({','.join(name for name, _ in pairs)})", st.tuples(*(value for _, value in pairs)))
    )
    return st.one_of(scalar, lists, fixed, tuples)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[str], list[object]]:
    pairs = draw(st.lists(_typed(2), max_size=4))
    return [name for name, _ in pairs], [draw(values) for _, values in pairs]


def _plain(value: object) -> object:
    """`eth_abi` writes addresses as text and lists as tuples."""
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return bytes.fromhex(value[2:])
    return tuple(_plain(item) for item in value) if isinstance(value, list | tuple) else value


@given(rows())
def test_encoding_equals_the_reference(row: tuple[list[str], list[object]]) -> None:
    types, values = row
    data = encode(types, values)
    assert data == eth_abi.encode(types, values)
    assert _plain(decode(types, data)) == _plain(eth_abi.decode(types, data)) == _plain(values)


@given(rows(), st.data())
def test_damaged_data_is_refused_or_read_but_never_crashes(
    row: tuple[list[str], list[object]], data: st.DataObject
) -> None:
    types, values = row
    encoded = bytearray(encode(types, values))
    if encoded:
        position = data.draw(st.integers(0, len(encoded) - 1))
        encoded[position] ^= data.draw(st.integers(1, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    for damaged in (bytes(encoded), cut):
        try:
            decode(types, damaged)
        except Malformed:
            pass


def test_a_huge_claimed_length_costs_nothing() -> None:
    data = (32).to_bytes(32, "big") + (2**255).to_bytes(32, "big")
    for type_ in ("bytes", "uint8[]", "bytes32[]"):
        with pytest.raises(Malformed):
            decode([type_], data)


@pytest.mark.parametrize(
    ("types", "values"),
    [
        (["uint8"], [256]),
        (["uint64"], [-1]),
        (["address"], [b"\1" * 19]),
        (["bytes32"], [b"\1" * 33]),
        (["uint8[2]"], [[1]]),
        (["uint8", "uint8"], [1]),
        (["int256"], [1]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(types: list[str], values: list[object]) -> None:
    with pytest.raises(NotEncodable):
        encode(types, values)


@pytest.mark.parametrize(
    ("type_", "data"),
    [
        ("uint8", (256).to_bytes(32, "big")),
        ("bool", (2).to_bytes(32, "big")),
        ("address", b"\1" * 32),
        ("bytes4", b"\1" * 32),
        ("uint256", b"\1" * 31),
    ],
)
def test_a_word_that_is_wider_than_its_type_is_refused(type_: str, data: bytes) -> None:
    with pytest.raises(Malformed):
        decode([type_], data)


def test_selectors_are_those_of_the_standards() -> None:
    token, settlement = interface("PoTToken"), interface("RewardSettlement")
    assert token.functions["transfer"].selector.hex() == "a9059cbb"
    assert token.events["Transfer"].topic.hex() == "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
    assert settlement.functions["settle"].inputs == (
        "(uint64,uint64,uint64,bytes32,uint128,bytes32,bytes32)",
        "bytes32[]",
        "uint256",
        "bytes",
    )


def _array(count: int, words: int) -> bytes:
    """A uint8[] that claims `count` items and brings `words` of them."""
    head = (32).to_bytes(32, "big") + count.to_bytes(32, "big")
    return head + (7).to_bytes(32, "big") * words


def test_an_array_is_as_long_as_its_data() -> None:
    assert decode(["uint8[]"], _array(3, 3)) == ((7, 7, 7),)
    assert decode(["uint8[]"], _array(0, 0)) == ((),)
    for count, words in ((1, 0), (4, 3), (5, 3), (6, 3), (2**255, 3)):
        with pytest.raises(Malformed):
            decode(["uint8[]"], _array(count, words))


def test_arrays_of_items_without_a_size_are_bounded() -> None:
    """An item of no bytes would let a claimed length alone cost time and memory."""
    assert decode(["uint8[0][]"], _array(100_000, 0)) == (((),) * 100_000,)
    with pytest.raises(Malformed, match=r"longer than its data \(seen: 100001\)"):
        decode(["uint8[0][]"], _array(100_001, 0))
