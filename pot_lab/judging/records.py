"""What an aggregator asks a helper, and what comes back: bounded records, one request and one reply a frame.

Paths name the aggregator's own copies of blobs. Everything else in a request may be a stranger's: proofs, leaves and
examples are checked by the helper before anything is run. A reply is not taken at its word where a few hashes can
check it (`contradiction`), since hostile files may have taken the helper over.
"""

from __future__ import annotations

import enum

from pot_lab.crypto.canonical import Record
from pot_lab.crypto.merkle import MerkleProof, SumProof

REASON_CHARACTERS = 500
CODE_CHARACTERS = 64


class Finding(enum.StrEnum):
    """What a judgement says. Only `right` and `wrong` are votes; each correct helper gives the same."""

    RIGHT = "right"
    """What was claimed holds."""
    WRONG = "wrong"
    """What was claimed does not hold, on every machine."""
    INVALID = "invalid"
    """The request proves nothing: a proof does not verify, or the example is not the order's."""
    NOT_JUDGED = "not judged"
    """This helper could not say: it was killed, ran out of a limit, or its own copies are missing or damaged."""


class TensorBytes(Record, frozen=True, kw_only=True):
    """One tensor of one example: number type as data files call it, shape without the batch, little-endian elements."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class TensorSchema(Record, frozen=True, kw_only=True):
    """Number type and shape of one example's input or target."""

    dtype: str
    shape: tuple[int, ...]


class ProvenExample(Record, frozen=True, kw_only=True, tag=1):
    """One example, all inputs before the target, with the proof that it is under the root of the test data."""

    tensors: tuple[TensorBytes, ...]
    proof: MerkleProof


class ExampleRow(Record, frozen=True, kw_only=True, tag=2):
    """The example that stands at the disputed index of an opened data file of this host.

    `tree`: path of the Merkle tree that `CheckTestData` left, which proves the row without reading the others.
    """

    path: str
    tree: str


class JudgeExample(Record, frozen=True, kw_only=True, tag=1):
    """Is this leaf of a validator's transcript what the model gives for this example?

    Attributes:
        graph, weights: paths of the model's files.
        mid: the model's id, 32 bytes, which the files are checked against.
        function: the score function's identifier.
        test_root: Merkle root over the test examples, 32 bytes.
        examples: how many they are, as the order says.
        example: the disputed example; its index is that of `proof`.
        transcript_root: Merkle-sum root that the validator opened, 32 bytes.
        leaves_total: sum of the leaves under it.
        valid: whether the validator called the score valid.
        leaf: the disputed leaf.
        proof: that `leaf` is under `transcript_root`.
    """

    graph: str
    weights: str
    mid: bytes
    function: str
    test_root: bytes
    examples: int
    example: ProvenExample | ExampleRow
    transcript_root: bytes
    leaves_total: int
    valid: bool
    leaf: int
    proof: SumProof


class CheckTestData(Record, frozen=True, kw_only=True, tag=2):
    """Is this opened data file the test data that the order promised, and can the order's models be scored with it?

    Attributes:
        path: of the data file.
        root: Merkle root over the examples, 32 bytes.
        examples: how many.
        schema: of each input and of the target, in this order; None where only root and graph bind it.
        graph: path of the order's graph; `graph_digest` is its SHA-256, 32 bytes.
        function: the score function's identifier.
        tree: path where the Merkle tree of the data is left if they are right; nothing may be there.
    """

    path: str
    root: bytes
    examples: int
    schema: tuple[TensorSchema, ...] | None
    graph: str
    graph_digest: bytes
    function: str
    tree: str


class CheckModel(Record, frozen=True, kw_only=True, tag=3):
    """Is this opened weights file, with the order's graph, the model of this id, and does it fit the graph?"""

    graph: str
    weights: str
    mid: bytes


class CheckTranscript(Record, frozen=True, kw_only=True, tag=4):
    """Is this file the transcript that an opened score names?

    Attributes:
        path: of the transcript.
        root: Merkle-sum root, 32 bytes.
        leaves_total: sum of the leaves; None where the ledger does not keep it.
        examples: how many, as the order says.
        function: the score function's identifier.
        valid, total: the opened score.
    """

    path: str
    root: bytes
    leaves_total: int | None
    examples: int
    function: str
    valid: bool
    total: int


class TranscriptFile(Record, frozen=True, kw_only=True):
    """A transcript by its path, and the Merkle-sum root that its validator opened (32 bytes)."""

    path: str
    root: bytes


class FirstDifference(Record, frozen=True, kw_only=True, tag=5):
    """Where do two transcripts of one model differ first? `right` if nowhere; `wrong` comes with the difference."""

    first: TranscriptFile
    second: TranscriptFile
    examples: int
    function: str


class OpenSealed(Record, frozen=True, kw_only=True, tag=6):
    """Decrypt this file into another one. `wrong` if the key does not open it, or if it is larger than it may be or
    not what was promised.

    Attributes:
        ciphertext: path of the encrypted file.
        digest: its SHA-256, 32 bytes, so that a damaged copy is not held against its maker.
        key: 32 bytes.
        target: path of the file to make; nothing may be there. It is there when the finding is `right`, and only then.
        limit_bytes: the most that it may have.
        promised: what it must be: its SHA-256, or of weights the model's id (32 bytes).
        graph_digest: SHA-256 of the graph with which the id names weights; empty where `promised` is a SHA-256.
    """

    ciphertext: str
    digest: bytes
    key: bytes
    target: str
    limit_bytes: int
    promised: bytes
    graph_digest: bytes = b""


JudgeBody = JudgeExample | CheckTestData | CheckModel | CheckTranscript | FirstDifference | OpenSealed
"""What a helper may be asked."""


class ProvenLeaf(Record, frozen=True, kw_only=True):
    """A leaf of a transcript, the sum of all leaves, and the proof of both under the transcript's root."""

    leaf: int
    leaves_total: int
    valid: bool
    proof: SumProof


class LeafDifference(Record, frozen=True, kw_only=True):
    """The first example by which two transcripts contradict each other."""

    index: int
    first: ProvenLeaf
    second: ProvenLeaf


class Judgement(Record, frozen=True, kw_only=True):
    """What a helper found.

    Attributes:
        finding: the answer.
        code: the rule that was broken, "" where none was. May be compared; the same on every machine.
        reason: the same for people. Differs between releases, so it must not enter anything that is hashed.
        expected: of `JudgeExample`, the right leaf; None where no leaf would be right.
        difference: of `FirstDifference`.
    """

    finding: Finding
    code: str = ""
    reason: str = ""
    expected: int | None = None
    difference: LeafDifference | None = None

    @property
    def is_vote(self) -> bool:
        """Whether an aggregator may vote by this."""
        return self.finding in (Finding.RIGHT, Finding.WRONG)


class HelperRequest(Record, frozen=True, kw_only=True):
    """One request frame; the reply repeats `number`. `wall_s`: how long its sender waits, in whole seconds."""

    number: int
    wall_s: int
    body: JudgeBody


class HelperReply(Record, frozen=True, kw_only=True):
    """One reply frame. `number` 0 is the first frame of a helper that is ready; `ends`: it takes no further request."""

    number: int
    judgement: Judgement
    ends: bool = False


def not_judged(code: str, reason: str = "") -> Judgement:
    """There is no answer, and why."""
    return Judgement(finding=Finding.NOT_JUDGED, code=code[:CODE_CHARACTERS], reason=reason[:REASON_CHARACTERS])


def contradiction(body: JudgeBody, judgement: Judgement) -> str | None:
    """What shows that a reply cannot be an honest helper's; None if nothing does.

    A false `right` or `wrong` about an example cannot be seen here: that is why f+1 aggregators have to agree.
    """
    if len(judgement.code) > CODE_CHARACTERS or len(judgement.reason) > REASON_CHARACTERS:
        return "a code or reason is too long"
    if isinstance(body, JudgeExample) and judgement.is_vote:
        if judgement.difference is not None:
            return "an example has no difference"
        if (judgement.expected == body.leaf) is not (judgement.finding is Finding.RIGHT):
            return "finding and expected leaf do not agree"
        return None
    if judgement.expected is not None:
        return "only an example has an expected leaf"
    if isinstance(body, FirstDifference) and judgement.finding is Finding.WRONG:
        return _no_difference(body, judgement.difference)
    return None if judgement.difference is None else "there is no difference to show"


def _no_difference(body: FirstDifference, shown: LeafDifference | None) -> str | None:
    if shown is None:
        return "transcripts differ, and no difference is shown"
    for leaf, root in ((shown.first, body.first.root), (shown.second, body.second.root)):
        if leaf.proof.index != shown.index or leaf.proof.count != body.examples:
            return "a leaf stands at another place"
        if not leaf.proof.verify(root, leaf.leaves_total, leaf.leaf):
            return "a leaf is not under its root"
    if (shown.first.leaf, shown.first.valid) == (shown.second.leaf, shown.second.valid):
        return "the leaves that are shown do not differ"
    return None
