"""Frames: whole or refused, and never read beyond what they may announce."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.errors import Oversize
from pot_lab.judging.frames import HelperClosed, framed, read_frame


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 7))
def test_frames_come_back_however_the_stream_is_cut(records: list[bytes], piece: int) -> None:
    stream = io.BytesIO(b"".join(map(framed, records)))
    for record in records:
        assert read_frame(lambda size: stream.read(min(size, piece)), 200) == record
    with pytest.raises(HelperClosed):
        read_frame(stream.read, 200)


def test_a_frame_that_announces_too_much_is_refused_before_it_is_read() -> None:
    stream = io.BytesIO((201).to_bytes(4, "big") + bytes(201))
    with pytest.raises(Oversize):
        read_frame(stream.read, 200)
    assert stream.tell() == 4


@given(st.binary(max_size=50), st.data())
def test_a_stream_that_ends_within_a_frame_is_no_frame(record: bytes, data: st.DataObject) -> None:
    whole = framed(record)
    stream = io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(HelperClosed):
        read_frame(stream.read, 50)
