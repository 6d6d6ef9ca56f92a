"""What a helper process runs: `python -m pot_lab.judging.helper.main LIMITS`, a socket as its standard input.

It proves that this machine computes the specification's known answers, says that it is ready, and then answers one
request after the other until the socket closes.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

import msgspec
import torch

from pot_lab.crypto.canonical import decode, encode
from pot_lab.errors import Malformed, PotLabError
from pot_lab.judging.frames import HelperClosed, framed, read_frame
from pot_lab.judging.helper.answer import answer
from pot_lab.judging.helper.confine import begin_request, confine, end_request
from pot_lab.judging.limits import HelperLimits
from pot_lab.judging.records import Finding, HelperReply, HelperRequest, Judgement, not_judged
from pot_lab.scoring import load_graph, run_self_test
from pot_lab.scoring.graph.model_graph import FORMAT, VERSION, encode_graph

BAD_REQUEST, UNSOUND = 2, 3
"""Exit codes: a frame that no client sends; a fault after which this process may not go on."""
LONGEST_WAIT_S = 30 * 86_400

_SMALLEST_GRAPH = {
    "format": FORMAT,
    "version": VERSION,
    "inputs": [{"dtype": "float32", "shape": [None, 1]}],
    "state": [],
    "aliases": {},
    "nodes": [{"op": "aten.relu.default", "args": [{"$": 0}], "kwargs": {}}],
    "outputs": [{"$": 1}],
}
"""Checked once before the limits are set: the first trace of shapes imports some hundred modules of torch, which takes
a second, and which must not fail by a limit in the middle of a judgement."""


def main(arguments: Sequence[str]) -> int:
    """One helper; returns its exit code, 0 once the other end closed."""
    limits = msgspec.json.decode(arguments[0], type=HelperLimits)
    torch.set_num_threads(limits.threads)
    with socket.socket(fileno=0) as stream:
        return serve(stream, limits, prove())


def prove() -> Judgement:
    """Whether this process computes the known answers; also does what takes long the first time."""
    try:
        run_self_test()
        load_graph(encode_graph(_SMALLEST_GRAPH))
    except PotLabError as problem:
        return not_judged(problem.code, str(problem))
    return Judgement(finding=Finding.RIGHT)


def serve(stream: socket.socket, limits: HelperLimits, proven: Judgement) -> int:
    """Say whether this helper is ready and answer requests; returns the exit code.

    Args:
        stream: to the aggregator.
        limits: set on this process, for good.
        proven: of `prove`, by this process or by the one that it was forked from.
    """
    try:
        return _serve(stream, limits, proven)
    except (HelperClosed, ConnectionError):
        return 0  # the aggregator is gone, or stops


def _serve(stream: socket.socket, limits: HelperLimits, proven: Judgement) -> int:
    if proven.finding is not Finding.RIGHT:
        stream.sendall(_reply(0, proven))
        return UNSOUND
    confine(limits)
    stream.sendall(_reply(0, proven))
    while True:
        try:
            record = read_frame(stream.recv, limits.request_bytes)
            request = decode(record, HelperRequest, limit_bytes=limits.request_bytes)
            if not 0 <= request.wall_s <= LONGEST_WAIT_S:
                raise Malformed("nobody waits so long", seen=request.wall_s, wanted=f"0 .. {LONGEST_WAIT_S} seconds")
        except PotLabError as problem:
            print(f"judging helper: {problem}", file=sys.stderr)
            return BAD_REQUEST
        begin_request(limits, request.wall_s)
        judgement, sound = answer(request.body)
        end_request()
        stream.sendall(_reply(request.number, judgement, ends=not sound))
        if not sound:
            return UNSOUND


def _reply(number: int, judgement: Judgement, *, ends: bool = False) -> bytes:
    try:
        record = encode(HelperReply(number=number, judgement=judgement, ends=ends))
    except (OverflowError, ValueError) as problem:  # a sum beyond what records hold
        record = encode(HelperReply(number=number, judgement=not_judged("NotEncodable", str(problem))))
    return framed(record)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
