"""Transcripts from custody: is one what an opened score names, and where do two of one model contradict each other."""

from __future__ import annotations

from pot_lab import scoring
from pot_lab.errors import PotLabError
from pot_lab.judging.helper.example import ProvesNothing, known_function
from pot_lab.judging.helper.files import read_copy
from pot_lab.judging.helper.promises import wrong
from pot_lab.judging.records import (
    CheckTranscript,
    Finding,
    FirstDifference,
    Judgement,
    LeafDifference,
    ProvenLeaf,
    TranscriptFile,
)
from pot_lab.scoring import DEFAULT_LIMITS, ScoreFunction, Transcript, parse_transcript
from pot_lab.scoring.errors import BadTranscript

_HEADER_BYTES = 256


def check_transcript(request: CheckTranscript) -> Judgement:
    """Whether a file is the transcript of an opened score: its root, its sum, its validity and its total.

    Raises:
        CopyDamaged: this host's file is at fault.
        PotLabError: the order cannot have this function or number of examples.
    """
    function = known_function(request.function)
    try:
        found = _read(request.path, request.examples, function)
        seen = (found.root, found.tree.total, found.valid, found.total)
        leaves_total = found.tree.total if request.leaves_total is None else request.leaves_total
        if seen != (request.root, leaves_total, request.valid, request.total):
            raise BadTranscript(
                "the transcript is not that of the opened score",
                seen=f"sum {seen[1]}, valid {seen[2]}, total {seen[3]}",
                wanted=f"sum {leaves_total}, valid {request.valid}, total {request.total}, and its root",
            )
    except PotLabError as problem:
        return wrong(problem)
    return Judgement(finding=Finding.RIGHT)


def first_difference(request: FirstDifference) -> Judgement:
    """Where two transcripts differ first, with both leaves and their proofs.

    Raises:
        CopyDamaged: this host's files are at fault.
        PotLabError: a file is not the transcript of its root.
    """
    function = known_function(request.function)
    first, second = (_of_root(each, request.examples, function) for each in (request.first, request.second))
    index = scoring.first_difference(first, second)
    if index is None:
        return Judgement(finding=Finding.RIGHT)
    shown = LeafDifference(index=index, first=_leaf(first, index), second=_leaf(second, index))
    return Judgement(finding=Finding.WRONG, difference=shown)


def _of_root(file: TranscriptFile, examples: int, function: ScoreFunction) -> Transcript:
    found = _read(file.path, examples, function)
    if found.root != file.root:
        raise ProvesNothing("a transcript has another root than its validator opened", wanted=file.root)
    return found


def _read(path: str, examples: int, function: ScoreFunction) -> Transcript:
    if not 0 < examples <= DEFAULT_LIMITS.examples:
        raise ProvesNothing("no order has this many examples", seen=examples, wanted=f"1 .. {DEFAULT_LIMITS.examples}")
    found = parse_transcript(read_copy(path, _HEADER_BYTES + 8 * examples, "transcript"), count=examples)
    if found.function != function:
        raise BadTranscript(
            "the transcript is of another score function", seen=found.function.identifier, wanted=function.identifier
        )
    return found


def _leaf(transcript: Transcript, index: int) -> ProvenLeaf:
    return ProvenLeaf(
        leaf=int(transcript.values[index]),
        leaves_total=transcript.tree.total,
        valid=transcript.valid,
        proof=transcript.proof(index),
    )
