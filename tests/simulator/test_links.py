"""Links delay, lose, repeat, reorder, narrow and cut frames, and count what they did."""

from __future__ import annotations

from collections import Counter
from random import Random

from pot_lab.simulator.links import Links, Weather, split_pairs
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US, EventQueue


class Wires:
    def __init__(self, weather: Weather) -> None:
        self.queue, self.counts = EventQueue(), Counter[str]()
        self.arrived: list[tuple[int, int, int, object]] = []
        self.links = Links(self.queue, Random(1), weather, self._deliver, self.counts)

    def _deliver(self, sender: int, receiver: int, what: object) -> None:
        self.arrived.append((self.queue.now_us, sender, receiver, what))

    def times_us(self) -> list[int]:
        return [at_us for at_us, *_ in self.arrived]


def test_frames_arrive_after_the_latency_in_order() -> None:
    wires = Wires(Weather.even(2, 700))
    wires.links.weather.jitter_us = 10_000
    for number in range(50):
        wires.links.send(0, 1, number, 100)
    wires.queue.run(SECOND_US)
    assert [what for *_, what in wires.arrived] == list(range(50))
    assert min(wires.times_us()) >= 700


def test_lost_and_repeated_frames_are_counted_one_by_one() -> None:
    weather = Weather.even(2)
    weather.loss, weather.duplication = 0.3, 0.3
    wires = Wires(weather)
    for number in range(1_000):
        wires.links.send(0, 1, number, 100)
    wires.queue.run(SECOND_US)
    assert wires.counts["frame_lost"] > 200 and wires.counts["frame_duplicated"] > 150
    assert len(wires.arrived) == 1_000 - wires.counts["frame_lost"] + wires.counts["frame_duplicated"]


def test_reordered_frames_leave_their_place() -> None:
    weather = Weather.even(2)
    weather.reordering = 0.2
    wires = Wires(weather)
    for number in range(200):
        wires.queue.after(number * 100, lambda number=number: wires.links.send(0, 1, number, 100))
    wires.queue.run(SECOND_US)
    order = [what for *_, what in wires.arrived]
    assert wires.counts["frame_reordered"] > 10 and sorted(order) == list(range(200)) != order


def test_a_narrow_link_delays_its_own_frames_only() -> None:
    weather = Weather.even(3, 0)
    weather.link_bits_per_s = 8_000
    wires = Wires(weather)
    for receiver in (1, 1, 2):
        wires.links.send(0, receiver, "", 1_000)
    wires.queue.run(10 * SECOND_US)
    assert sorted((receiver, at_us) for at_us, _, receiver, _ in wires.arrived) == [
        (1, SECOND_US), (1, 2 * SECOND_US), (2, SECOND_US),
    ]  # fmt: skip


def test_an_uplink_is_shared_by_all_links_of_its_host() -> None:
    weather = Weather.even(3, 0)
    weather.uplink_bits_per_s = {0: 8_000}
    wires = Wires(weather)
    for sender, receiver in ((0, 1), (0, 2), (1, 2)):
        wires.links.send(sender, receiver, "", 1_000)
    wires.queue.run(10 * SECOND_US)
    assert wires.times_us() == [0, SECOND_US, 2 * SECOND_US]


def test_overhead_counts_as_bytes() -> None:
    weather = Weather.even(2, 0)
    weather.link_bits_per_s, weather.overhead_bytes = 8_000, 500
    wires = Wires(weather)
    wires.links.send(0, 1, "", 500)
    wires.queue.run(10 * SECOND_US)
    assert wires.times_us() == [SECOND_US] and wires.links.sent_bytes == 1_000


def test_a_cut_has_a_direction_takes_what_is_under_way_and_heals() -> None:
    wires = Wires(Weather.even(3, 10 * MILLISECOND_US))
    wires.links.send(0, 1, "under way", 10)
    wires.links.cut([(0, 1)])
    wires.links.send(0, 1, "cut", 10)
    wires.links.send(1, 0, "back", 10)
    wires.queue.run(SECOND_US)
    assert [what for *_, what in wires.arrived] == ["back"] and wires.counts["frame_cut_off"] == 2
    wires.links.heal([(0, 1)])
    wires.links.send(0, 1, "healed", 10)
    wires.queue.run(2 * SECOND_US)
    assert [what for *_, what in wires.arrived] == ["back", "healed"]


def test_overlapping_cuts_end_one_by_one() -> None:
    wires = Wires(Weather.even(4))
    first, second = split_pairs([0], [1, 2, 3]), split_pairs([0, 1], [2, 3])
    wires.links.cut(first)
    wires.links.cut(second)
    wires.links.heal(first)
    assert wires.links.is_cut(0, 2) and not wires.links.is_cut(0, 1)
    wires.links.heal()
    assert not wires.links.is_cut(0, 2)
