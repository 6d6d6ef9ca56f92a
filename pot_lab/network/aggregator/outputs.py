"""Where the effects of an aggregator's replica go: to its peers, its clients, its duties."""

from __future__ import annotations

from collections.abc import Callable

from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership
from pot_lab.consensus.messages import (
    CheckpointProof,
    FetchBatches,
    FetchBodies,
    FetchChunk,
    FetchDecisions,
    FetchViewChanges,
    Forward,
    Message,
    encode_message,
)
from pot_lab.consensus.records import LogRecord
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import Executed, ReportEquivocation, SendRefusal, SendReply
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.clients import ClientService
from pot_lab.network.aggregator.metrics import PeerActivity
from pot_lab.network.aggregator.own_seat import OwnSeat, SeatChange
from pot_lab.network.aggregator.peer_budget import PeerBudgets
from pot_lab.network.aggregator.sockets import Sockets
from pot_lab.network.logs import EventLog
from pot_lab.network.wake_up import WakeUp

_OWN = (Forward, FetchBodies, FetchBatches, FetchDecisions, FetchViewChanges, FetchChunk)
"""What this aggregator sends of itself; anything else that goes to one peer is an answer."""


class AggregatorOutputs:
    """The outputs of one aggregator (`consensus.driver.Outputs`); opens its sockets, and anew when its keys change.

    Args:
        replica: whose effects these are.
        seat: where it listens.
        clients: gets replies and refusals.
        witness: called with the evidence when another aggregator's double signing is proved; again after a restart.
        events: where changes are logged.
        wake_up: polled beside the sockets.
        budgets: pay for what peers ask for.
    Attributes:
        sockets: those open now.
        peers_heard: when each peer was last heard from.
        timer_ms: when the replica wants a turn, milliseconds since the Unix epoch; None if it does not.
        left: whether this aggregator had a seat and has none any more.
    Raises:
        PortTaken: another process listens on one of its ports.
    """

    def __init__(
        self,
        replica: Replica,
        seat: OwnSeat,
        clients: ClientService,
        *,
        witness: Callable[[Equivocation], None] | None,
        events: EventLog,
        wake_up: WakeUp,
        budgets: PeerBudgets,
    ) -> None:
        self._replica, self._seat, self._clients = replica, seat, clients
        self._witness, self._events = witness, events
        self._wake_up, self._budgets = wake_up, budgets
        self.peers_heard = PeerActivity()
        self._executed: list[Executed] = []
        self.timer_ms: int | None = None
        self.left = False
        self.sockets = self._open()

    def close(self) -> None:
        """Close the sockets, and wait until the ports are free."""
        self.sockets.close()

    def send(self, to: int, message: Message) -> None:
        """Send a message to one peer by its number; dropped when it is not connected. An answer costs that peer."""
        began_s = self._budgets.answer_began_s()
        self.sockets.send(to, encode_message(message))
        if not isinstance(message, _OWN):
            self._budgets.charge(to, self._budgets.clock() - began_s)

    def may_serve(self, to: int) -> bool:
        """Whether this peer's budget is not spent; it pays for what is read until `send`."""
        return self._budgets.may_serve(to)

    def broadcast(self, message: Message) -> None:
        """Send a message to every other member of the set; without a seat, to everybody who may know of a later set."""
        below = OUTSIDERS if self._seat.index != NO_SEAT else 2 * OUTSIDERS
        self.sockets.broadcast(encode_message(message), below)

    def reply(self, reply: SendReply) -> None:
        """Answer the clients that wait for this request, at the end of the turn."""
        self._clients.reply(reply)

    def refuse(self, refusal: SendRefusal) -> None:
        """Refuse the request to the clients that wait for it, at the end of the turn."""
        self._clients.refuse(refusal)

    def executed(self, batch: Executed) -> None:
        """Keep the batch for the duties."""
        self._executed.append(batch)

    def take_executed(self) -> list[Executed]:
        """The batches executed since the last call."""
        executed, self._executed = self._executed, []
        return executed

    def set_timer(self, at_ms: int | None) -> None:
        """Take a turn at this time."""
        self.timer_ms = at_ms

    def persisted(self, record: LogRecord) -> None:
        """Nothing to do."""

    def compacted(self, proof: CheckpointProof) -> None:
        """Nothing to do."""

    def equivocation(self, report: ReportEquivocation) -> None:
        """Log the proof of double signing, and pass it to the witness."""
        vote = report.evidence.first
        self._events.warning("equivocation", accused=report.accused, view=vote.view, sequence=vote.sequence)
        if self._witness is not None:
            self._witness(report.evidence)

    def members_changed(self, membership: Membership) -> None:
        """Reach the members of another set, with the keys that it names for this aggregator; or note that it left.

        Raises:
            BadKeyFile: it lacks the key that the set names for it.
            PortTaken: another process listens where it is to listen now.
        """
        self.peers_heard.clear()
        self._events.info("members_changed", since=membership.since, n=membership.n, own=membership.index)
        change = self._seat.change(membership)
        if change is SeatChange.LEFT:
            self._events.info("left", since=membership.since)
            self.left = True
        elif change is SeatChange.MOVED:
            self.sockets.close()
            self.sockets = self._open()
        else:
            self.sockets.update(self._seat.peers(membership, self._replica.succession))

    def halt(self, error: PotLabError) -> None:
        """Raise the error: it ends the process."""
        raise error

    def _open(self) -> Sockets:
        peers = self._seat.peers(self._replica.membership, self._replica.succession)
        return Sockets(self._seat.entry, self._seat.keys, peers, self._wake_up)
