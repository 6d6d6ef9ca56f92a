"""Frames between clients and aggregators: what is sent arrives, what is not a message is refused, errors keep their
names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.consensus.batching import QueueFull
from pot_lab.errors import Malformed, Oversize, PotLabError
from pot_lab.network.errors import RemoteError, Unreachable, error_from_wire, error_to_wire
from pot_lab.network.wire import (
    MAX_CLIENT_FRAME_BYTES,
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
    Unfollow,
    decode_answer,
    decode_question,
    encode_frame,
)

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
answers = st.one_of(
    st.builds(Answered, hashes, numbers, numbers, st.binary(max_size=50)),
    st.builds(RequestRefused, hashes, names, names, names, names),
    st.builds(QueryAnswered, numbers, numbers, st.binary(max_size=50)),
    st.builds(QueryRefused, numbers, numbers, names, names, names, names),
    st.builds(Pushed, numbers, numbers, numbers, st.lists(st.binary(max_size=9), max_size=4).map(tuple)),
    st.builds(StatusAnswered, numbers, numbers, numbers, numbers, numbers, hashes, st.dictionaries(names, numbers)),
)


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


def test_an_oversize_frame_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(Oversize):
        decode_question(b"\xc1" * (MAX_CLIENT_FRAME_BYTES + 1))


def test_an_error_crosses_the_wire_as_its_own_class() -> None:
    error = QueueFull("too many", seen=b"\1\2", wanted=3)
    back = error_from_wire(*error_to_wire(error))
    assert type(back) is QueueFull
    assert str(back) == "too many (seen: 0102, wanted: 3)"


def test_an_unknown_error_keeps_its_name_and_a_known_one_with_its_own_arguments_is_made() -> None:
    unknown = error_from_wire("Strange", "it is odd", "", "")
    assert isinstance(unknown, RemoteError) and "Strange: it is odd" in str(unknown)
    assert isinstance(error_from_wire("Unreachable", "far away", "", ""), Unreachable)
    assert type(error_from_wire("PotLabError", "x", "", "")) is PotLabError
