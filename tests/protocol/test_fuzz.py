"""Whatever bytes an authenticated account signs, `execute` answers: it never raises, and money stays conserved."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pot_lab.crypto.canonical import encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Oversize, PotLabError
from pot_lab.protocol import errors, queries, views
from pot_lab.protocol.cycle import TABLE, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.transactions import BODIES, TRANSACTION_LIMIT_BYTES, Transaction, open_transaction
from tests.protocol.scenes import PROVIDERS, RESTING, VALIDATORS, bring_to, new_world, speech
from tests.protocol.test_chain_events import SHAPES
from tests.protocol.test_refusals import frozen
from tests.protocol.world import World, key

KINDS = sorted(BODIES)
SHARED_CODES = ("Malformed", "Oversize", "BadSignature", "BadShares", "UnknownScoreFunction")
"""Refusals whose classes are shared with other rooms."""
_worlds: dict[Window, tuple[World, bytes, bytes]] = {}


def world_in(window: Window) -> tuple[World, bytes]:
    """A world with an order in this window, as if it had just been made."""
    if window not in _worlds:
        world = new_world()
        order_id = bring_to(world, window)
        world.batch()
        _worlds[window] = world, order_id, world.ledger.snapshot()
    world, order_id, snapshot = _worlds[window]
    world.ledger = Ledger(world.genesis)
    world.ledger.restore(snapshot)
    return world, order_id


integers = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(-3, 300),
    st.sampled_from([0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), 10**18, 10**9]),
)
hashes = st.binary(min_size=32, max_size=32)
blobs = st.one_of(hashes, st.binary(max_size=40), st.binary(min_size=20, max_size=20), st.just(b"\x01" * 9_000))
texts = st.one_of(
    st.text(max_size=12), st.sampled_from(["accuracy", "cross_entropy", "https://example.org/x", *SHAPES])
)
scalars = st.one_of(integers, blobs, texts, st.booleans(), st.none(), st.floats())
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=6), max_leaves=12)


def value_of(type_: Any, order_id: bytes) -> st.SearchStrategy[Any]:
    """Values of a field's type, right in shape and wild in everything else."""
    if isinstance(type_, msgspec.inspect.CustomType):  # a wide integer
        return st.one_of(
            integers, st.integers(1 << 64, 1 << 129).map(lambda wide: wide.to_bytes(17, "big").lstrip(b"\0"))
        )
    if isinstance(type_, msgspec.inspect.IntType):
        return integers
    if isinstance(type_, msgspec.inspect.BytesType):
        return st.one_of(blobs, st.just(order_id))
    if isinstance(type_, msgspec.inspect.StrType):
        return texts
    if isinstance(type_, msgspec.inspect.BoolType):
        return st.booleans()
    if isinstance(type_, msgspec.inspect.VarTupleType):
        return st.lists(value_of(type_.item_type, order_id), max_size=5)
    assert isinstance(type_, msgspec.inspect.StructType), type_
    return st.tuples(*(value_of(field.type, order_id) for field in type_.fields))


def with_change(value: Any, data: st.DataObject, order_id: bytes) -> Any:
    """The value with one part of it, at any depth, replaced by anything."""
    if isinstance(value, list) and value and data.draw(st.integers(0, 4)):
        i = data.draw(st.integers(0, len(value) - 1))
        return [*value[:i], with_change(value[i], data, order_id), *value[i + 1 :]]
    if isinstance(value, list) and value and data.draw(st.booleans()):
        return data.draw(st.sampled_from([value[:-1], value + value[-1:], value * 60, []]))
    if isinstance(value, int) and data.draw(st.booleans()):
        return data.draw(integers)
    return data.draw(anything)


def said(world: World, who: Identity, kind: str, body: bytes) -> None:
    """Order this body in the account's name; whatever comes, the ledger must stay whole."""
    nonce = world.nonces[who.address] = world.nonces.get(who.address, 0) + 1
    transaction = Transaction(
        network_id=world.network_id, kind=kind, account=who.address, nonce=nonce, body=body, signature=b""
    )
    request = encode(msgspec.structs.replace(transaction, signature=who.sign(transaction.digest)))
    if len(request) > TRANSACTION_LIMIT_BYTES:
        with pytest.raises(Oversize):
            open_transaction(request, world.network_id)
        return
    before = frozen(world, who.address)
    (reply,) = world.ordered(request)
    if not reply.accepted:
        assert frozen(world, who.address) == before
        assert hasattr(errors, reply.code) or reply.code in SHARED_CODES
        assert len(encode(reply)) < 2_000
    assert encode(world.ledger.state)
    assert queries.query(world.ledger, "orders", encode(views.OrdersQuery(10)))


people = st.sampled_from([*PROVIDERS, *VALIDATORS[:2], key("client"), key("aggregator 0"), key("stranger")])


@settings(max_examples=120)
@given(st.sampled_from(KINDS), st.sampled_from(RESTING), people, st.data())
def test_bodies_of_the_right_shape_and_any_values(
    kind: str, window: Window, who: Identity, data: st.DataObject
) -> None:
    world, order_id = world_in(window)
    body = data.draw(value_of(msgspec.inspect.type_info(BODIES[kind]), order_id))
    said(world, who, kind, encode(body))


@settings(max_examples=150)
@given(st.sampled_from([window for window in RESTING if TABLE[window].accepts]), st.data())
def test_right_transactions_with_one_thing_wrong(window: Window, data: st.DataObject) -> None:
    world, order_id = world_in(window)
    kind = data.draw(st.sampled_from(TABLE[window].accepts))
    who, body = speech(world, order_id, kind)
    said(world, who, kind, encode(with_change(msgspec.msgpack.decode(encode(body)), data, order_id)))


@settings(max_examples=80)
@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_attested_events_with_one_thing_wrong_from_a_single_aggregator(kind: str, data: st.DataObject) -> None:
    world, order_id = world_in(Window.COMMIT)
    body = msgspec.msgpack.decode(encode([world.ledger.state.next_chain_event, [SHAPES[kind]]]))
    staked = world.ledger.state.staked_grains
    said(world, world.aggregators[0], "attest", encode(with_change(body, data, order_id)))
    assert world.ledger.state.staked_grains == staked, "one of four says nothing about the chain"


@settings(max_examples=80)
@given(st.data())
def test_orders_with_one_thing_wrong(data: st.DataObject) -> None:
    world, _ = world_in(Window.WAITING)
    order = msgspec.msgpack.decode(encode([world.new_order(nonce=data.draw(st.integers(100, 10**6)))]))
    said(world, world.client, "put", encode([with_change(order[0], data, b"\x01" * 32)]))


@given(st.sampled_from(KINDS), st.binary(max_size=300), people)
def test_arbitrary_bytes(kind: str, body: bytes, who: Identity) -> None:
    world, _ = world_in(Window.SCORE)
    said(world, who, kind, body)


@given(
    st.sampled_from([*queries._QUERIES, "", "state", "__class__"]),
    st.one_of(st.binary(max_size=60), anything.map(encode)),
)
def test_a_query_answers_or_refuses_by_name(name: str, arguments: bytes) -> None:
    world, _ = world_in(Window.SETTLED)
    before = world.ledger.snapshot()
    try:
        assert isinstance(queries.query(world.ledger, name, arguments), bytes)
    except PotLabError as error:
        assert error.code in ("Malformed", "Oversize", "UnknownQuery", "UnknownOrder")
    assert world.ledger.snapshot() == before


@pytest.mark.long
@settings(max_examples=20_000)
@given(st.sampled_from(KINDS), st.sampled_from(RESTING), people, st.data())
def test_bodies_of_any_values_for_long(kind: str, window: Window, who: Identity, data: st.DataObject) -> None:
    world, order_id = world_in(window)
    wild = data.draw(value_of(msgspec.inspect.type_info(BODIES[kind]), order_id))
    plain = msgspec.msgpack.decode(encode(wild))
    said(world, who, kind, encode(with_change(plain, data, order_id) if data.draw(st.booleans()) else wild))
