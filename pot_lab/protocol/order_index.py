"""What follows from the orders and is asked for at every batch or query: which deadline is next, which orders may be
forgotten, who has how many, which are in a window.

Derived from the state and never part of it: `Book` builds it when a state is taken over, and whoever changes an order
reports it, so no batch walks through all orders. It decides nothing.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from heapq import heappop, heappush

from pot_lab.crypto.identity import Address
from pot_lab.protocol.cycle import TABLE, Phase, Window
from pot_lab.protocol.records import OrderId
from pot_lab.protocol.state import OrderState

_Age = tuple[int, OrderId]
"""Minus the time of the put, and the order; sorts the newest first."""


class _Pay:
    """An order by reward per unit of training time, compared without division: the best paid first, then by id."""

    __slots__ = ("order_id", "reward_grains", "train_ms")

    def __init__(self, order_id: OrderId, order: OrderState) -> None:
        self.order_id, spec = order_id, order.order
        self.reward_grains, self.train_ms = spec.reward_grains, spec.windows.train_ms

    def __lt__(self, other: _Pay) -> bool:
        ours, theirs = self.reward_grains * other.train_ms, other.reward_grains * self.train_ms
        return self.order_id < other.order_id if ours == theirs else ours > theirs


class _Alarms:
    """Times by order id, the earliest first; a time that was changed is skipped when its turn comes."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, OrderId]] = []
        self._times: dict[OrderId, int] = {}

    def set(self, order_id: OrderId, time_ms: int | None) -> None:
        """Set, change or (None) clear the order's time."""
        if time_ms is None:
            self._times.pop(order_id, None)
        elif self._times.get(order_id) != time_ms:
            self._times[order_id] = time_ms
            heappush(self._heap, (time_ms, order_id))

    def next_ms(self) -> int | None:
        """The earliest time."""
        while self._heap:
            time_ms, order_id = self._heap[0]
            if self._times.get(order_id) == time_ms:
                return time_ms
            heappop(self._heap)
        return None

    def due(self, now_ms: int) -> list[OrderId]:
        """Take out what is due at `now_ms`, in the order of times, then ids."""
        found = []
        while (next_ms := self.next_ms()) is not None and next_ms <= now_ms:
            _, order_id = heappop(self._heap)
            del self._times[order_id]
            found.append(order_id)
        return found


class _SeatHolders:
    """Who has seats in which orders."""

    def __init__(self) -> None:
        self.of_order: dict[OrderId, set[Address]] = {}
        self.of_account: dict[Address, set[OrderId]] = {}

    def follow(self, order_id: OrderId, seats: Sequence[Sequence[Address]]) -> None:
        """Take note of an order's seats; none where it is forgotten."""
        before, now = self.of_order.pop(order_id, set()), {account for each in seats for account in each}
        for account in before - now:
            held = self.of_account[account]
            held.discard(order_id)
            if not held:
                del self.of_account[account]
        for account in now - before:
            self.of_account.setdefault(account, set()).add(order_id)
        if now:
            self.of_order[order_id] = now


class OrderIndex:
    """Deadlines, ends of retention, windows and counts of `orders`, which it follows through `touch`."""

    def __init__(self, orders: Mapping[OrderId, OrderState]) -> None:
        self.deadlines = _Alarms()
        self.retention = _Alarms()
        self._held: dict[Address, set[OrderId]] = {}
        self._unfunded: set[OrderId] = set()
        self._windows: dict[OrderId, Window] = {}
        self._newest: list[_Age] = []
        self._newest_of: dict[Address, list[_Age]] = {}
        self._by_window: dict[Window, set[OrderId]] = {window: set() for window in Window}
        self._best_paid: list[_Pay] = []
        self._seated = _SeatHolders()
        self._sets: dict[OrderId, int] = {}
        self._drawing: Counter[int] = Counter()
        for order_id, order in orders.items():
            self.touch(order_id, order)

    @property
    def unfunded(self) -> int:
        """How many orders without money the ledger holds; they cost their senders nothing."""
        return len(self._unfunded)

    def held_by(self, client: Address) -> int:
        """How many orders count against a client's limit: those that have not ended, and unfunded ones until they are
        forgotten, or else a client could fill the ledger by putting and withdrawing.
        """
        return len(self._held.get(client, ()))

    def in_window(self, window: Window) -> Set[OrderId]:
        """The orders that are in this window."""
        return self._by_window[window]

    def best_paid(self) -> Iterator[OrderId]:
        """The orders that take models, by reward per unit of training time, the best paid first."""
        return (pay.order_id for pay in self._best_paid)

    def seated(self, account: Address) -> Set[OrderId]:
        """The orders in which the account has seats."""
        return self._seated.of_account.get(account, set())

    def draws_from(self, number: int) -> bool:
        """Whether an order may still draw seats from this set of validators."""
        return self._drawing[number] > 0

    @property
    def live(self) -> int:
        """How many orders have not ended."""
        return sum(len(ids) for window, ids in self._by_window.items() if TABLE[window].phase is not Phase.ENDED)

    def newest(self, client: Address | None, count: int) -> list[OrderId]:
        """Up to `count` orders, of one client or of all, the newest first and by id where they are of one age."""
        ages = self._newest if client is None else self._newest_of.get(client, [])
        return [order_id for _, order_id in ages[:count]]

    def touch(self, order_id: OrderId, order: OrderState) -> None:
        """Take note of an order that is new or has changed its window, its money or its epoch."""
        ended = TABLE[order.window].phase is Phase.ENDED
        unfunded = never_funded(order)
        self.deadlines.set(order_id, order.closes_ms or None)
        self.retention.set(order_id, forget_ms(order) if ended and not settling(order) else None)
        (self._unfunded.add if unfunded else self._unfunded.discard)(order_id)
        if order_id not in self._windows:
            age = -order.put_ms, order_id
            insort(self._newest, age)
            insort(self._newest_of.setdefault(order.order.client, []), age)
        self._change_window(order_id, order, order.window)
        self._seated.follow(order_id, order.seats)
        self._follow_set(order_id, order.validators_at)
        if unfunded or not ended:
            self._held.setdefault(order.order.client, set()).add(order_id)
        else:
            self._release(order_id, order)

    def remove(self, order_id: OrderId, order: OrderState) -> None:
        """Forget an order."""
        self.deadlines.set(order_id, None)
        self.retention.set(order_id, None)
        self._unfunded.discard(order_id)
        if order_id in self._windows:
            own = self._newest_of[order.order.client]
            for ages in (self._newest, own):
                del ages[bisect_left(ages, (-order.put_ms, order_id))]
            if not own:
                del self._newest_of[order.order.client]
        self._change_window(order_id, order, None)
        self._seated.follow(order_id, [])
        self._follow_set(order_id, 0)
        self._release(order_id, order)

    def _change_window(self, order_id: OrderId, order: OrderState, now: Window | None) -> None:
        before = self._windows.pop(order_id, None)
        if before is not None:
            self._by_window[before].discard(order_id)
        if now is not None:
            self._windows[order_id] = now
            self._by_window[now].add(order_id)
        if (before is Window.COMMIT) != (now is Window.COMMIT):
            pay = _Pay(order_id, order)
            if now is Window.COMMIT:
                insort(self._best_paid, pay)
            else:
                del self._best_paid[bisect_left(self._best_paid, pay)]

    def _follow_set(self, order_id: OrderId, number: int) -> None:
        before = self._sets.pop(order_id, 0)
        self._drawing[before] -= 1
        self._drawing[number] += 1
        if number:
            self._sets[order_id] = number

    def _release(self, order_id: OrderId, order: OrderState) -> None:
        held = self._held.get(order.order.client, set())
        held.discard(order_id)
        if not held:
            self._held.pop(order.order.client, None)


def is_waiting(order: OrderState) -> bool:
    """Whether the order has not started."""
    return order.window is Window.WAITING


def never_funded(order: OrderState) -> bool:
    """Whether the order waits for its escrow, or ended without one."""
    return is_waiting(order) or (order.window is Window.VOID and not order.t0_ms and not order.payouts)


def settling(order: OrderState) -> bool:
    """Whether the order's payouts have yet to be confirmed by the chain."""
    return bool(order.payouts) and not order.epoch


def forget_ms(order: OrderState) -> int:
    """When an ended order's body may be forgotten: one without money sooner, since strangers can make as many."""
    keep_ms = order.parameters.retention_ms
    return order.ended_ms + (min(keep_ms, order.parameters.pool_ms) if never_funded(order) else keep_ms)
