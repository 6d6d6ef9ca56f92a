"""Clients' requests until the replica takes them: validated here, in the time of who sent them.

A request that does not validate costs as much as one that does, and its sender nothing. So it is refused before the
replica sees it, from a small share of time that unknown clients have together (`client_classes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pot_lab.agreement.application import RequestId
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.client_classes import ClientClass, ClientClasses
from pot_lab.network.aggregator.fair_queue import FairQueue
from pot_lab.network.aggregator.read_time import TimeShare
from pot_lab.network.wire import Submit
from pot_lab.network.zmtp.listener import Sender

REQUESTS_A_TURN = 256
"""How many requests are taken up in one turn."""
SHARES = {ClientClass.VALID: 0.25, ClientClass.NEW: 0.1}
"""While the aggregators decide something, the class has so much of the time."""
_ORDERING_S = {ClientClass.FUNDED: 100e-6, ClientClass.VALID: 300e-6, ClientClass.NEW: 300e-6}
"""What a valid request counts as besides its validation: it is ordered, executed and answered later."""
_REFUSAL_S = 60e-6
"""What a refusal counts as besides: it is encoded, encrypted and sent later."""
_KEPT_PART = 8
"""Where the replica has little room, so much of it is kept for each of the other classes."""
_AFTERWARDS = (ClientClass.VALID, ClientClass.NEW, ClientClass.VALID, ClientClass.FUNDED)
"""The classes that are served after FUNDED; those that a client was moved to have another turn."""
_FULL_WAIT_MS = 10


class Admitting(NamedTuple):
    """Who decides about requests, and where they go.

    Attributes:
        validate: raises PotLabError for a request that no aggregator admits; remembers what it has validated.
        is_funded: whether an account has stake or money in the state.
        accept, refuse: get what was validated, and what was not.
    """

    validate: Callable[[bytes], RequestId]
    is_funded: Callable[[bytes], bool]
    accept: Callable[[Sender, Submit], None]
    refuse: Callable[[Sender, Submit, PotLabError], None]


class RequestQueue:
    """The requests of all clients. Within a class, sites and clients take turns by the time that they used.

    Args:
        admitting: decides about requests.
        counters: counts refusals.
        clock: the time that the thread had, in seconds (`ServingClock`); requests are charged by this.
        now_s: seconds, never going back; a client keeps its class by this.
    """

    def __init__(
        self,
        admitting: Admitting,
        counters: Counter[str],
        clock: Callable[[], float],
        now_s: Callable[[], float],
    ) -> None:
        self._admitting, self._counters, self._clock = admitting, counters, clock
        self._classes = ClientClasses(now_s)
        self._queues: dict[ClientClass, FairQueue[Submit]] = {each: FairQueue() for each in ClientClass}
        self._times = {each: TimeShare(clock, share) for each, share in SHARES.items()}
        self._is_held_up = False

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def counters(self) -> Counter[str]:
        """What the queues counted."""
        return sum((each.counters for each in self._queues.values()), Counter[str]())

    @property
    def wait_ms(self) -> int | None:
        """How long the loop may wait at most; None for as long as it likes."""
        if not len(self):
            return None
        if self._is_held_up:
            return _FULL_WAIT_MS
        if self._queues[ClientClass.FUNDED]:
            return 0
        return min(self._times[each].wait_ms for each in SHARES if self._queues[each])

    def has_room(self, sender: Sender, items: int) -> bool:
        """Whether so many requests of this client can be queued."""
        return self._queues[self._classes.of(sender.key)].has_room(sender, items)

    def put(self, sender: Sender, submit: Submit) -> None:
        """Queue a request, or drop it where there is no room."""
        self._queues[self._classes.of(sender.key)].put(sender, submit, len(submit.request))

    def take_up(self, room: int, *, quiet: bool) -> None:
        """Take up a turn's requests for the replica, which has room for so many.

        Args:
            quiet: whether nothing is being decided, so that validating delays nobody.
        """
        self._is_held_up = room <= 0
        room = min(REQUESTS_A_TURN, room)
        for time in self._times.values():
            time.begin(quiet=quiet)
        kept = sum(max(1, room // _KEPT_PART) for each in SHARES if self._queues[each])
        room -= self._take_class(ClientClass.FUNDED, max(min(room, 1), room - kept))
        for its_class in _AFTERWARDS:
            room -= self._take_class(its_class, room)

    def _take_class(self, its_class: ClientClass, room: int) -> int:
        """Take up a class's requests, as many as there is room and time; returns how many."""
        queue, limit, taken = self._queues[its_class], self._times.get(its_class), 0
        while taken < room and queue and (limit is None or limit.left_s > 0):
            taken += 1
            self._serve(its_class, queue, limit)
        return taken

    def _serve(self, its_class: ClientClass, queue: FairQueue[Submit], time: TimeShare | None) -> None:
        def handle(sender: Sender, submit: Submit) -> float:
            cost_s = self._decide(sender, submit, its_class)
            if time is not None:
                time.spend(cost_s)
            return cost_s

        moved = queue.serve(handle, self._clock, lambda sender: self._classes.of(sender.key) is its_class)
        for sender, submit, size_bytes in moved:  # all that a client sent stays in its order
            self._queues[self._classes.of(sender.key)].adopt(sender, submit, size_bytes)

    def _decide(self, sender: Sender, submit: Submit, its_class: ClientClass) -> float:
        started_s, admitting = self._clock(), self._admitting
        try:
            account = admitting.validate(submit.request).account
        except PotLabError as error:
            self._classes.refused(sender.key)
            self._counters["requests_refused"] += 1
            admitting.refuse(sender, submit, error)
            return self._clock() - started_s + _REFUSAL_S
        self._classes.admitted(sender.key, ClientClass.FUNDED if admitting.is_funded(account) else ClientClass.VALID)
        admitting.accept(sender, submit)
        return self._clock() - started_s + _ORDERING_S[its_class]
