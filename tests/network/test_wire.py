"""Frames between clients and aggregators: what is sent arrives, what is not a message is refused, errors keep their
names."""

from __future__ import annotations

import importlib
import pkgutil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pot_lab
from pot_lab.consensus.batching import QueueFull
from pot_lab.errors import InvariantBroken, Malformed, Oversize, PotLabError, UnknownScoreFunction
from pot_lab.network.errors import RemoteError
from pot_lab.network.wire import (
    MAX_ANSWER_FRAME_BYTES,
    MAX_BUNDLE,
    MAX_CLIENT_FRAME_BYTES,
    MAX_CREDIT,
    MAX_PEER_FRAME_BYTES,
    Answered,
    AskStatus,
    Follow,
    Pushed,
    Query,
    QueryAnswered,
    QueryRefused,
    RequestRefused,
    StatusAnswered,
    Submit,
    SubmitAll,
    Unfollow,
    decode_answer,
    decode_question,
    encode_frame,
)
from pot_lab.network.wire_codes import MAX_TEXT, WIRE_ERRORS, error_from_wire, error_to_wire, table_of_codes

numbers = st.integers(0, 2**63 - 1)
names = st.text(max_size=64)
hashes = st.binary(min_size=32, max_size=32)
questions = st.one_of(
    st.builds(Submit, st.binary(max_size=50), st.booleans()),
    st.builds(Query, numbers, names, st.binary(max_size=50)),
    st.builds(Follow, numbers, numbers, st.integers(1, 256)),
    st.builds(Unfollow, numbers),
    st.builds(AskStatus, numbers),
)
texts = {"code": names, "message": names, "seen": names, "wanted": names}
answers = st.one_of(
    st.builds(Answered, digest=hashes, sequence=numbers, time_ms=numbers, reply=st.binary(max_size=50)),
    st.builds(RequestRefused, digest=hashes, **texts),
    st.builds(QueryAnswered, numbers, numbers, st.binary(max_size=50)),
    st.builds(QueryRefused, call=numbers, executed=numbers, **texts),
    st.builds(
        Pushed,
        stream=numbers,
        sequence=numbers,
        time_ms=numbers,
        events=st.lists(st.binary(max_size=9), max_size=4).map(tuple),
    ),
    st.builds(
        StatusAnswered,
        call=numbers,
        view=numbers,
        primary=numbers,
        executed=numbers,
        time_ms=numbers,
        state=hashes,
        counters=st.dictionaries(names, numbers),
    ),
)


def test_fields_stand_in_a_frame_in_their_declared_order() -> None:
    refused = QueryRefused(call=1, executed=2, code="c", message="m", seen="s", wanted="w")
    assert msgspec.msgpack.decode(encode_frame(refused)) == [4, 1, 2, "c", "m", "s", "w"]
    refused_request = RequestRefused(digest=bytes(32), code="c", message="m", seen="s", wanted="w")
    assert msgspec.msgpack.decode(encode_frame(refused_request)) == [2, bytes(32), "c", "m", "s", "w"]
    answered = Answered(digest=bytes(32), sequence=1, time_ms=2, reply=b"r")
    assert msgspec.msgpack.decode(encode_frame(answered)) == [1, bytes(32), 1, 2, b"r"]
    pushed = Pushed(stream=1, sequence=2, time_ms=3, events=(b"e",))
    assert msgspec.msgpack.decode(encode_frame(pushed)) == [5, 1, 2, 3, [b"e"]]
    status = StatusAnswered(call=1, view=2, primary=3, executed=4, time_ms=5, state=bytes(32), counters={"a": 6})
    assert msgspec.msgpack.decode(encode_frame(status)) == [6, 1, 2, 3, 4, 5, bytes(32), {"a": 6}]


@given(questions, answers)
def test_frames_survive_the_wire(question: object, answer: object) -> None:
    assert decode_question(encode_frame(question)) == question  # type: ignore[arg-type]
    assert decode_answer(encode_frame(answer)) == answer  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_garbage_is_malformed_and_nothing_else(frame: bytes) -> None:
    for decode in (decode_question, decode_answer):
        try:
            decode(frame)
        except Malformed:
            pass


@pytest.mark.parametrize("question", [Follow(1, 1, 0), Follow(1, 1, 257), Follow(-1, 1, 1), Query(1, "x" * 65, b"")])
def test_fields_outside_their_bounds_are_malformed(question: Follow | Query) -> None:
    with pytest.raises(Malformed):
        decode_question(encode_frame(question))


def test_the_limits_of_frames_are_those_that_both_ends_were_built_with() -> None:
    limits = MAX_PEER_FRAME_BYTES, MAX_CLIENT_FRAME_BYTES, MAX_ANSWER_FRAME_BYTES
    assert limits == (8 << 20, 512 << 10, 32 << 20)
    assert (MAX_CREDIT, MAX_BUNDLE, MAX_TEXT) == (256, 128, 2_000)
    follow = Follow(1, 1, MAX_CREDIT)
    assert decode_question(encode_frame(follow)) == follow
    bundle = SubmitAll((b"x",) * MAX_BUNDLE, True)
    assert decode_question(encode_frame(bundle)) == bundle
    with pytest.raises(Malformed):
        decode_question(encode_frame(SubmitAll((b"x",) * (MAX_BUNDLE + 1), True)))


@pytest.mark.parametrize("kind", [Answered, RequestRefused, QueryRefused, Pushed, StatusAnswered])
def test_records_of_many_fields_are_built_by_keyword(kind: type[Answered]) -> None:
    with pytest.raises(TypeError):
        kind(*range(len(kind.__struct_fields__)))


def test_a_frame_of_the_largest_size_is_parsed() -> None:
    with pytest.raises(Malformed):
        decode_question(b"\xc1" * MAX_CLIENT_FRAME_BYTES)


def test_an_oversize_frame_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Oversize):
        decode_question(b"\xc1" * (MAX_CLIENT_FRAME_BYTES + 1))


def test_an_error_crosses_the_wire_as_its_own_class() -> None:
    error = QueueFull("too many", seen=b"\1\2", wanted=3)
    back = error_from_wire(**error_to_wire(error))
    assert type(back) is QueueFull
    assert str(back) == "too many (seen: 0102, wanted: 3)"


@pytest.mark.parametrize("code", ["Strange", "Unreachable", "BadConfig", "ShapeMismatch", "KeyboardInterrupt", ""])
def test_a_code_outside_the_table_selects_no_class_and_keeps_its_name(code: str) -> None:
    unknown = error_from_wire(code, "it is odd", "", "")
    assert type(unknown) is RemoteError and str(unknown) == f"{code}: it is odd"


def test_long_texts_of_an_error_are_cut_at_their_limit() -> None:
    error = Malformed("m" * (MAX_TEXT + 1), seen="s" * (MAX_TEXT + 1), wanted=b"\xab" * MAX_TEXT)
    texts = error_to_wire(error)
    assert list(texts.values()) == ["Malformed", "m" * MAX_TEXT, "s" * MAX_TEXT, "ab" * (MAX_TEXT // 2)]
    refused = RequestRefused(digest=bytes(32), **texts)
    assert decode_answer(encode_frame(refused)) == refused


def test_an_error_without_values_comes_back_without_them() -> None:
    back = error_from_wire(**error_to_wire(Malformed("m")))
    assert (back.seen, back.wanted) == (None, None)
    zero = error_to_wire(Malformed("m", seen=0, wanted=False))
    assert (zero["seen"], zero["wanted"]) == ("0", "False")


def test_two_classes_with_one_code_are_refused() -> None:
    other = type("Malformed", (PotLabError,), {})
    with pytest.raises(InvariantBroken, match="Malformed"):
        table_of_codes((Malformed, Oversize, other))


BY_THE_NETWORK = {"QueryFailed"}
NEVER_SENT = {
    "BadLog": "stops the replica while it starts",
    "BadParameters": "of the process's own arguments",
    "BadProof": "raised by whoever checks a proof",
    "BadViewChange": "of frames between aggregators, which are dropped",
    "CannotDecrypt": "raised by whoever holds the key",
    "CannotOpen": "raised by whoever holds the key",
    "PortTaken": "stops a process while it starts",
    "StateDiverged": "stops the replica",
    "UnknownVersion": "stops the process",
    "WrongPassword": "of keystores",
}
"""Errors of the rooms below that no handler of a request or query lets out, and why."""


def test_every_error_of_the_rooms_that_handle_requests_is_in_the_table() -> None:
    rooms = ("errors", "agreement", "crypto", "consensus", "protocol")
    for module in pkgutil.walk_packages(pot_lab.__path__, "pot_lab."):
        if module.name.split(".")[1] in rooms:
            importlib.import_module(module.name)

    def derived(root: type[PotLabError]) -> set[type[PotLabError]]:
        return {root}.union(*(derived(each) for each in root.__subclasses__()))

    classes = {each for each in derived(PotLabError) if each.__module__.split(".")[:2][-1] in rooms}
    classes = {each for each in classes if each.__module__.startswith("pot_lab.")} - {PotLabError}
    assert {each.__name__ for each in classes} | BY_THE_NETWORK == set(WIRE_ERRORS) | set(NEVER_SENT)
    assert not set(WIRE_ERRORS) & set(NEVER_SENT)
    assert all(
        error_from_wire(each.__name__, "m", "", "").__class__ is WIRE_ERRORS[each.__name__]
        for each in classes
        if each.__name__ in WIRE_ERRORS
    )


def test_scoring_and_the_ledger_refuse_an_unknown_score_function_by_one_class() -> None:
    assert WIRE_ERRORS["UnknownScoreFunction"] is UnknownScoreFunction
    from pot_lab.protocol import records
    from pot_lab.scoring import functions

    assert records.UnknownScoreFunction is functions.UnknownScoreFunction is UnknownScoreFunction
