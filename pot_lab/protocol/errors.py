"""The rules' names: one class for each reason why the ledger refuses a transaction.

A refusal travels as `(code, message, seen, wanted)` in a reply and is raised again as the same class at the client
(protocol.md, "Who may submit what").
"""

from __future__ import annotations

from pot_lab.errors import PotLabError


class Refused(PotLabError):
    """Base of every refusal by the ledger; a refused transaction changes nothing but its account's nonce."""


class WrongNetwork(Refused):
    """A transaction or record was made for another network.

    What to do: sign for the network whose `network.toml` you use.
    """


class UnknownKind(Refused):
    """No rule handles this kind of transaction.

    What to do: update the package, or the aggregators.
    """


class StaleNonce(Refused):
    """The account has used this nonce or a later one already: a replay.

    What to do: nothing if it was sent twice; else sign again with a higher nonce.
    """


class UnprocessableTransaction(Refused):
    """A handler met a value that no check foresaw; a bug of ours, refused alike by every aggregator.

    What to do: report it with the transaction: a check of ours is missing.
    """

    MESSAGE = "the ledger cannot process this transaction"


class NotAllowed(Refused):
    """The account does not have the role, or may not act on its own work.

    What to do: use the account that has the role, and not on its own work.
    """


class UnknownOrder(Refused):
    """The ledger has no such order.

    What to do: check the id and the network; a new order takes a second to appear.
    """


class UnknownBlob(Refused):
    """No live order names this blob.

    What to do: nothing; the order that named it has ended.
    """


class UnknownDispute(Refused):
    """The order has no such dispute, or it is decided already.

    What to do: nothing; a verdict that comes late changes nothing.
    """


class TooManyChallenges(Refused):
    """The account has as many challenges on the order as it may have.

    What to do: challenge one example of each wrong score; one is enough to drop it.
    """


class OrderExists(Refused):
    """The order is in the ledger already.

    What to do: nothing: the order was posted before.
    """


class TooManyOrders(Refused):
    """The account has as many live orders as it may.

    What to do: wait until one of the account's orders has ended.
    """


class PoolFull(Refused):
    """As many orders without escrow wait as may; one whose escrow is on the chain is always taken.

    What to do: pay the escrow first; `Lab.order` does so by itself.
    """


class BadOrder(Refused):
    """A field of the order cannot be accepted.

    What to do: correct the field that the message names.
    """


class BadWindows(Refused):
    """The order's windows are too short, too long, or do not end before the escrow may be refunded.

    What to do: choose lengths within the bounds that the message names.
    """


class RewardTooSmall(Refused):
    """Reward, fee or bond is under the network's minimum.

    What to do: raise it to the minimum that the message names.
    """


class TooEarly(Refused):
    """The window for this transaction has not opened.

    What to do: wait until the window opens.
    """


class TooLate(Refused):
    """The window for this transaction has closed.

    What to do: nothing: the window is over. Miners should submit earlier; check the machine's clock.
    """


class UnknownClaim(Refused):
    """The account, or the model named, has no claim on this order.

    What to do: commit to a model first, or name one that is claimed.
    """


class BadCommitment(Refused):
    """What was revealed does not open the commitment that was made.

    What to do: reveal exactly what was committed to, with the stored salt.
    """


class AlreadyDone(Refused):
    """This was done before and cannot be done again.

    What to do: nothing: it was done.
    """


class InsufficientStake(Refused):
    """The account's free stake in this role is under what is needed.

    What to do: `pot-lab wallet stake ROLE`, then wait until the aggregators have seen it.
    """


class NotAssigned(Refused):
    """The validator was not drawn for this model.

    What to do: score only the models that the validator was drawn for.
    """


class BadShare(Refused):
    """A key share does not open the order's commitment to it.

    What to do: release the share that was sealed to this aggregator, unchanged.
    """


class BadEvidence(Refused):
    """The evidence against an aggregator proves nothing.

    What to do: submit two signed votes that contradict each other.
    """


class ChangePending(Refused):
    """The set of aggregators is changing already; one change takes force before the next is made.

    What to do: wait about a second until the earlier change is in force, and submit again.
    """


class BadSeat(Refused):
    """A seat among the aggregators cannot be had or given up like this.

    What to do: correct what the message names; `pot-lab seat` shows the seats.
    """


class BadRotation(Refused):
    """A signature names no signer set that waits for signatures, or does not sign it.

    What to do: sign the signer set that the ledger names now.
    """


class BadEpoch(Refused):
    """A signature names no epoch that waits for signatures, or does not sign it.

    What to do: sign the epoch that the ledger names now.
    """


class BadProposal(Refused):
    """A proposal to change the network's rules cannot be made, or is not voted on.

    What to do: correct what the message names; `pot-lab params` lists parameters and proposals.
    """


class TooManyProposals(Refused):
    """The account has a proposal already, or there are as many as may be.

    What to do: wait until one has ended; `pot-lab params` shows when.
    """


class UnknownVersion(PotLabError):
    """A vote has activated a version of the protocol's rules that this release does not know.

    What to do: install the release that the message names, and start again; the log is kept and replayed.
    """
