"""Following the sets of aggregators: a client asks whether another set is in force, and checks the signed handovers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from pot_lab.consensus.membership import Membership, Succession
from pot_lab.consensus.messages import Handover
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import Call, Targets, TimedLoop
from pot_lab.network.client.queries import Queries
from pot_lab.network.seats import HANDOVERS, decode_handovers

_log = logging.getLogger("pot_lab.client")
_ASK_AFTER_S = 3.0


class MembershipFollower:
    """The set of aggregators in force, as far as a client has followed it; lives on the client's thread.

    One aggregator after the other is asked for the handovers since; no answer needs vouching, since each handover
    carries the signatures of the set before it.

    Args:
        succession: the sets known at the start.
        on_change: called, a turn later, when a later set is in force.
    """

    def __init__(
        self, io: TimedLoop, links: Targets, queries: Queries, succession: Succession, on_change: Callable[[], None]
    ) -> None:
        self._io, self._links, self._queries = io, links, queries
        self._succession, self._on_change = succession, on_change
        self._asked_last = 0

    @property
    def handovers(self) -> tuple[Handover, ...]:
        """The handovers from the network's first set to the one in force, each signed by the set before it."""
        return tuple(self._succession.handovers)

    @property
    def membership(self) -> Membership:
        """The set in force."""
        return self._succession.latest.membership

    def start(self) -> None:
        """Ask one aggregator after the other from time to time, while there are connections."""
        self._io.after(_ASK_AFTER_S, self._ask)

    def _ask(self) -> None:
        if not len(self._links):
            return
        self._asked_last = (self._asked_last + 1) % len(self._links)
        call: Call[bytes] = Call()
        call.future.add_done_callback(self._on_answer)
        era = self.membership.since.to_bytes(8, "big")
        self._queries.begin(HANDOVERS, era, self._asked_last, call, _ASK_AFTER_S)
        self.start()

    def _on_answer(self, answered: Future[bytes]) -> None:
        if not len(self._links) or answered.exception() is not None:
            return
        before = self.membership
        try:
            for handover in decode_handovers(answered.result()):
                if not self._succession.follow(handover):
                    _log.warning("an aggregator sent a handover that the set before it did not sign")
                    break
        except PotLabError:
            _log.warning("an aggregator answered the query for handovers with something else")
        if self.membership is not before:
            self._io.after(0, self._on_change)  # later: the answer's own connection is being read now
