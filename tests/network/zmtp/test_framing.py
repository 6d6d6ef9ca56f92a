"""Frames of ZMTP 3.1: whole ones come out, whatever pieces they came in, and none larger than its limit."""

from __future__ import annotations

import pytest

from pot_lab.errors import Malformed, Oversize
from pot_lab.network.zmtp.framing import FrameReader, ZmtpFrame, check_greeting, encode_frame, greeting


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1_000, 10**6])
def test_frames_come_out_whole_whatever_pieces_they_came_in(piece: int) -> None:
    bodies = [b"", b"x", bytes(255), bytes(256), bytes(range(256)) * 300, b"end"]
    stream = b"".join(encode_frame(body, is_command=at % 2 == 0) for at, body in enumerate(bodies))
    reader, found = FrameReader(100_000), []
    for at in range(0, len(stream), piece):
        reader.feed(stream[at : at + piece])
        while (frame := reader.take()) is not None:
            found.append(frame)
    assert found == [ZmtpFrame(at % 2 == 0, False, body) for at, body in enumerate(bodies)]
    assert len(reader) == 0


def test_a_frame_that_states_too_much_is_refused_before_its_body_comes() -> None:
    reader = FrameReader(1_000)
    reader.feed(encode_frame(bytes(1_000)))
    assert reader.take() is not None
    reader.feed(b"\2" + (1_001).to_bytes(8, "big"))
    with pytest.raises(Oversize, match="1001 bytes"):
        reader.take()


@pytest.mark.parametrize("flags", [8, 16, 0x80, 5, 7, 255])
def test_flags_that_are_none_are_refused(flags: int) -> None:
    reader = FrameReader(1_000)
    reader.feed(bytes([flags, 0]))
    with pytest.raises(Malformed, match="flags"):
        reader.take()


def test_a_part_of_a_message_says_so() -> None:
    reader = FrameReader(10)
    reader.feed(b"\1\1a\0\1b")
    assert [reader.take(), reader.take(), reader.take()] == [
        ZmtpFrame(False, True, b"a"),
        ZmtpFrame(False, False, b"b"),
        None,
    ]


def test_only_a_greeting_of_zmtp_3_under_curve_is_taken() -> None:
    good = greeting(as_server=True)
    check_greeting(good)
    check_greeting(greeting(as_server=False))
    check_greeting(good[:10] + b"\4\0" + good[12:])
    for at in (0, 9, 12, 16):
        with pytest.raises(Malformed):
            check_greeting(good[:at] + b"\0" + good[at + 1 :])
    with pytest.raises(Malformed, match="ZMTP 3"):
        check_greeting(good[:10] + b"\2" + bytes(53))
