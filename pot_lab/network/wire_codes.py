"""Errors on the wire: the declared table of the classes that an aggregator may send, by code.

A refusal travels as four texts (code, message, seen, wanted); the code is the class's name. A client raises the class
of that code again if it is in the table, and `RemoteError` otherwise, so that no code from outside selects a class
that happens to have that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from pot_lab.agreement.evidence import NoEquivocation
from pot_lab.agreement.quorum import BadReplicaCount
from pot_lab.consensus.batching import QueueFull
from pot_lab.consensus.proof import NoProof
from pot_lab.crypto.identity import BadKey, BadSignature
from pot_lab.crypto.merkle import BadTree
from pot_lab.crypto.shamir import BadShares
from pot_lab.errors import InvariantBroken, Malformed, Oversize, PotLabError, UnknownScoreFunction
from pot_lab.network.errors import QueryFailed, RemoteError
from pot_lab.protocol import errors as ledger
from pot_lab.protocol.parameters import BadParameter
from pot_lab.protocol.settlement import BadLeaf, NotEncodable
from pot_lab.protocol.views import UnknownQuery

MAX_TEXT = 2_000
"""Largest length of each text of an error on the wire, in characters."""


def table_of_codes(classes: Iterable[type[PotLabError]]) -> dict[str, type[PotLabError]]:
    """Error classes by code.

    Raises:
        InvariantBroken: two classes have one code, so a refusal could be raised as the wrong one.
    """
    table: dict[str, type[PotLabError]] = {}
    for each in classes:
        if each.__name__ in table:
            raise InvariantBroken("two error classes have one wire code", seen=each.__name__, wanted="unique codes")
        table[each.__name__] = each
    return table


WIRE_ERRORS = table_of_codes(
    (
        # any reader of bytes from outside
        Malformed,
        Oversize,
        # signatures, shares and trees inside transactions
        BadKey,
        BadShares,
        BadSignature,
        BadTree,
        # consensus: admission, proofs of replies, evidence
        BadReplicaCount,
        NoEquivocation,
        NoProof,
        QueryFailed,
        QueueFull,
        # the ledger: replies and queries
        BadLeaf,
        BadParameter,
        NotEncodable,
        UnknownQuery,
        UnknownScoreFunction,
        ledger.AlreadyDone,
        ledger.BadCommitment,
        ledger.BadEpoch,
        ledger.BadEvidence,
        ledger.BadOrder,
        ledger.BadProposal,
        ledger.BadRotation,
        ledger.BadSeat,
        ledger.BadShare,
        ledger.BadWindows,
        ledger.ChangePending,
        ledger.InsufficientStake,
        ledger.NotAllowed,
        ledger.NotAssigned,
        ledger.OrderExists,
        ledger.PoolFull,
        ledger.Refused,
        ledger.RewardTooSmall,
        ledger.StaleNonce,
        ledger.TooEarly,
        ledger.TooLate,
        ledger.TooManyOrders,
        ledger.TooManyProposals,
        ledger.UnknownClaim,
        ledger.UnknownKind,
        ledger.UnprocessableTransaction,
        ledger.UnknownBlob,
        ledger.UnknownDispute,
        ledger.TooManyChallenges,
        ledger.UnknownOrder,
        ledger.WrongNetwork,
    )
)
"""What an aggregator may send, by code. A class that a handler can raise belongs here."""


class ErrorTexts(TypedDict):
    """An error on the wire: the last fields of `RequestRefused` and `QueryRefused`."""

    code: str
    message: str
    seen: str
    wanted: str


def error_to_wire(error: PotLabError) -> ErrorTexts:
    """An error as code, message, seen and wanted, each at most `MAX_TEXT` characters; bytes become hex."""
    values = (value.hex() if isinstance(value, bytes) else value for value in (error.seen, error.wanted))
    seen, wanted = ("" if value is None else str(value)[:MAX_TEXT] for value in values)
    return ErrorTexts(code=error.code, message=error.message[:MAX_TEXT], seen=seen, wanted=wanted)


def error_from_wire(code: str, message: str, seen: str, wanted: str) -> PotLabError:
    """The error that a refusal stands for: an instance of the class with that code.

    A code that is not in `WIRE_ERRORS` gives a `RemoteError` whose message begins with the code.
    """
    known = WIRE_ERRORS.get(code)
    error = PotLabError.__new__(known or RemoteError)
    text = message if known is not None else f"{code}: {message}"
    PotLabError.__init__(error, text, seen=seen or None, wanted=wanted or None)
    return error
