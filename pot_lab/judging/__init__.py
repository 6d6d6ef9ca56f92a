"""Judging by re-execution: is one example of a score right, are test data, a model or a transcript what was promised.

The work runs in helper processes beside an aggregator (`judging/helper/`, the only part that imports torch), because
the files are a stranger's: whatever happens to a helper, the aggregator gets a judgement or the word that there is
none. Must not know the ledger, and must not be needed to order transactions.
"""

from pot_lab.judging.client import JudgeHelper
from pot_lab.judging.forked import HelperForks
from pot_lab.judging.limits import HelperLimits
from pot_lab.judging.pool import JudgePool
from pot_lab.judging.process import start_helper
from pot_lab.judging.records import (
    CheckModel,
    CheckTestData,
    CheckTranscript,
    ExampleRow,
    Finding,
    FirstDifference,
    JudgeBody,
    JudgeExample,
    Judgement,
    LeafDifference,
    OpenSealed,
    ProvenExample,
    ProvenLeaf,
    TensorBytes,
    TensorSchema,
    TranscriptFile,
)

__all__ = [
    "CheckModel",
    "CheckTestData",
    "CheckTranscript",
    "ExampleRow",
    "Finding",
    "FirstDifference",
    "HelperForks",
    "HelperLimits",
    "JudgeBody",
    "JudgeExample",
    "JudgeHelper",
    "JudgePool",
    "Judgement",
    "LeafDifference",
    "OpenSealed",
    "ProvenExample",
    "ProvenLeaf",
    "TensorBytes",
    "TensorSchema",
    "TranscriptFile",
    "start_helper",
]
