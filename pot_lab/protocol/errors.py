"""The rules' names: one class for each reason why the ledger refuses a transaction.

A refusal travels as `(code, message, seen, wanted)` in a reply and is raised again as the same class at the client
(protocol.md, "Who may submit what").
"""

from __future__ import annotations

from pot_lab.errors import PotLabError


class Refused(PotLabError):
    """Base of every refusal by the ledger; a refused transaction changes nothing but its account's nonce."""


class WrongNetwork(Refused):
    """A transaction or record was made for another network."""


class UnknownKind(Refused):
    """No rule handles this kind of transaction."""


class StaleNonce(Refused):
    """The account has used this nonce or a later one already: a replay."""


class UnprocessableTransaction(Refused):
    """A handler met a value that no check foresaw; a bug of ours, refused alike by every aggregator."""

    MESSAGE = "the ledger cannot process this transaction"


class NotAllowed(Refused):
    """The account does not have the role, or may not act on its own work."""


class UnknownOrder(Refused):
    """The ledger has no such order."""


class OrderExists(Refused):
    """The order is in the ledger already."""


class TooManyOrders(Refused):
    """The account has as many live orders as it may."""


class PoolFull(Refused):
    """As many orders without escrow wait as may; one whose escrow is on the chain is always taken."""


class BadOrder(Refused):
    """A field of the order cannot be accepted."""


class BadWindows(Refused):
    """The order's windows are too short, too long, or do not end before the escrow may be refunded."""


class RewardTooSmall(Refused):
    """Reward, fee or bond is under the network's minimum."""


class TooEarly(Refused):
    """The window for this transaction has not opened."""


class TooLate(Refused):
    """The window for this transaction has closed."""


class UnknownClaim(Refused):
    """The account, or the model named, has no claim on this order."""


class BadCommitment(Refused):
    """What was revealed does not open the commitment that was made."""


class AlreadyDone(Refused):
    """This was done before and cannot be done again."""


class InsufficientStake(Refused):
    """The account's free stake in this role is under what is needed."""


class NotAssigned(Refused):
    """The validator was not drawn for this model."""


class BadShare(Refused):
    """A key share does not open the order's commitment to it."""


class BadEvidence(Refused):
    """The evidence against an aggregator proves nothing."""


class ChangePending(Refused):
    """The set of aggregators is changing already; one change takes force before the next is made."""


class BadSeat(Refused):
    """A seat among the aggregators cannot be had or given up like this."""


class BadRotation(Refused):
    """A signature names no signer set that waits for signatures, or does not sign it."""


class BadEpoch(Refused):
    """A signature names no epoch that waits for signatures, or does not sign it."""
