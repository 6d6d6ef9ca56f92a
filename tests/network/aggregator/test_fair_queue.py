"""Sites and their clients are served by the time that they used, and nothing that they can fill has no end."""

from __future__ import annotations

from collections import Counter

import pytest

from pot_lab.network.aggregator import fair_queue as module
from pot_lab.network.aggregator.fair_queue import FairQueue, UsedTime
from pot_lab.network.zmtp.listener import Sender


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def sender(key: str, site: str = "here") -> Sender:
    return Sender(key, site, key.encode())


class Served:
    """A queue whose items say how long they take."""

    def __init__(self) -> None:
        self.queue: FairQueue[float] = FairQueue()
        self.clock = Clock()
        self.order: list[str] = []

    def put(self, key: str, *costs_s: float, site: str = "here") -> None:
        for cost_s in costs_s:
            self.queue.put(sender(key, site), cost_s)

    def serve(self, count: int = 1) -> list[str]:
        def handle(sender: Sender, cost_s: float) -> None:
            self.clock.now_s += cost_s
            self.order.append(sender.key)

        for _ in range(count):
            self.queue.serve(handle, self.clock)
        served, self.order = self.order, []
        return served


@pytest.fixture
def served() -> Served:
    return Served()


def test_clients_whose_items_cost_the_same_take_turns_in_order(served: Served) -> None:
    for key in ("a", "b", "c"):
        served.put(key, 1.0, 1.0)
    assert served.serve(6) == ["a", "b", "c", "a", "b", "c"]
    assert len(served.queue) == 0


def test_a_client_whose_items_are_dear_has_fewer_turns(served: Served) -> None:
    served.put("heavy", *[10.0] * 10)
    served.put("light", *[1.0] * 30)
    assert Counter(served.serve(33)) == {"heavy": 3, "light": 30}


def test_a_flood_costs_another_client_one_item(served: Served) -> None:
    served.put("flood", *[1.0] * 500)
    assert served.serve(50) == ["flood"] * 50
    served.put("quiet", 1.0)
    assert "quiet" in served.serve(2)


def test_who_was_idle_saves_nothing_up(served: Served) -> None:
    served.put("busy", *[1.0] * 200)
    served.serve(100)
    served.put("late", *[1.0] * 50)
    assert 9 <= Counter(served.serve(20))["late"] <= 11


def test_many_keys_of_one_site_share_its_turns(served: Served) -> None:
    for number in range(100):
        served.put(f"stranger {number}", *[1.0] * 5)
    served.put("honest", *[1.0] * 10, site="there")
    assert 9 <= Counter(served.serve(20))["honest"] <= 10


def test_a_cost_that_comes_later_is_charged_as_told() -> None:
    queue: FairQueue[str] = FairQueue()
    for key in ("a", "b"):
        for _ in range(20):
            queue.put(sender(key), key)
    found: list[str] = []

    def handle(sender: Sender, item: str) -> float:
        found.append(item)
        return 9.0 if item == "a" else 1.0

    for _ in range(20):
        queue.serve(handle, lambda: 0.0)
    assert Counter(found) == {"a": 2, "b": 18}


def test_an_item_whose_handling_fails_is_gone_and_the_queue_goes_on(served: Served) -> None:
    def fail(sender: Sender, cost_s: float) -> None:
        raise RuntimeError

    served.put("a", 1.0, 1.0)
    served.put("b", 1.0, site="there")
    with pytest.raises(RuntimeError):
        served.queue.serve(fail, served.clock)
    assert sorted(served.serve(2)) == ["a", "b"] and len(served.queue) == 0


def test_one_clients_queue_is_bounded_in_number_and_bytes(served: Served) -> None:
    queue = served.queue
    for _ in range(module.QUEUED_PER_CLIENT):
        assert queue.has_room(sender("a"))
        queue.put(sender("a"), 0.0)
    assert not queue.has_room(sender("a")) and queue.has_room(sender("b"))
    queue.put(sender("a"), 0.0)
    assert len(queue) == module.QUEUED_PER_CLIENT and queue.counters["client_frames_dropped"] == 1
    served.serve()
    assert queue.has_room(sender("a")) and not queue.has_room(sender("a"), 2)
    queue.put(sender("b"), 0.0, module.BYTES_PER_CLIENT)
    assert queue.has_room(sender("b"))
    queue.put(sender("b"), 0.0, 1)
    assert not queue.has_room(sender("b"))


def test_all_clients_together_are_bounded_but_a_late_one_has_room(served: Served) -> None:
    queue = served.queue
    for site in ("here", "there", "elsewhere"):
        for number in range(100):
            for _ in range(module.QUEUED_PER_CLIENT):
                queue.put(sender(f"stranger {number}", site), 0.0)
    assert module.QUEUED_IN_ALL <= len(queue) < 1.3 * module.QUEUED_IN_ALL
    late = sender("late", "late")
    for _ in range(module._ALWAYS_PER_CLIENT):
        assert queue.has_room(late)
        queue.put(late, 0.0)
    assert not queue.has_room(late)
    for site in ("here", "there", "elsewhere"):
        for number in range(10_000):
            queue.put(sender(f"key {number}", site), 0.0)
    assert len(queue) == 2 * module.QUEUED_IN_ALL and not queue.has_room(sender("last", "last"))


@pytest.mark.parametrize("size_bytes", [0, module.BYTES_PER_CLIENT // 8])
def test_the_keys_of_one_site_leave_room_for_others(served: Served, size_bytes: int) -> None:
    queue = served.queue
    for number in range(20_000):
        queue.put(sender(f"key {number}"), 0.0, size_bytes)
    assert not queue.has_room(sender("another key"))
    late = sender("late", "there")
    for _ in range(module._ALWAYS_PER_CLIENT):
        assert queue.has_room(late)
        queue.put(late, 0.0)


def test_what_a_client_has_leaves_in_its_order_once_it_no_longer_belongs_here(served: Served) -> None:
    queue, other = served.queue, FairQueue[float]()
    served.put("leaves", 1.0, 2.0, 3.0)
    served.put("stays", 1.0, 1.0)
    found = queue.serve(lambda sender, cost_s: cost_s, served.clock, lambda sender: sender.key == "stays")
    assert found == [(sender("leaves"), 2.0, 0), (sender("leaves"), 3.0, 0)]
    assert len(queue) == 2 and served.serve(2) == ["stays", "stays"]
    for who, item, size_bytes in found:
        other.adopt(who, item, size_bytes)
    assert len(other) == 2 and other.has_room(sender("leaves"))
    served.put("leaves", 1.0)
    assert served.serve() == ["leaves"]


def test_bytes_of_all_together_are_bounded(served: Served) -> None:
    for number in range(100):
        served.queue.put(sender(f"stranger {number}", f"site {number}"), 0.0, module.BYTES_PER_CLIENT)
    assert len(served.queue) <= 2 * module.BYTES_IN_ALL // module.BYTES_PER_CLIENT + 1
    served.serve(len(served.queue))
    assert served.queue.has_room(sender("again"))


def test_names_that_are_level_with_the_others_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REMEMBERED", 10)
    used = UsedTime()
    for number in range(1_000):
        used.charge(f"name {number}", 0.001)
    assert len(used._used) <= 1_000 and used.of("new") <= used.of("name 999")
    for _ in range(20):
        used.charge("one", 1.0)
    assert len(used._used) <= 11
