"""What befalls a run: profiles name the kinds of faults, a seed decides which of them come, when and how hard.

At most f aggregators are faulty in a way that the protocol must tolerate for ever: Byzantine ones, those whose disk was
lost or damaged, those whose clock was set far off. Everything else, crashes of any number, power cuts of all at once,
full
disks, processes that stand still, partitions, loss, may befall all of them, and ends when the storm ends: then the
network has to recover by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from pot_lab.errors import PotLabError
from pot_lab.simulator import byzantine
from pot_lab.simulator.clocks import Clock
from pot_lab.simulator.eras import Course
from pot_lab.simulator.links import Weather, split_pairs
from pot_lab.simulator.profiles import PERMANENT, STORM_US, Profile
from pot_lab.simulator.stage import Stage
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US

_REPLACED_AFTER_US = SECOND_US // 2
_REGIONS_MS = (
    (1, 15, 45, 110, 120),
    (15, 1, 36, 100, 115),
    (45, 36, 1, 75, 90),
    (110, 100, 75, 1, 40),
    (120, 115, 90, 40, 1),
)
"""One way, in milliseconds: between five regions of the world."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a seed draws before a run begins: which kinds of faults come, to which hosts, and which sets there will be.

    Attributes:
        kinds: the kinds of faults that come.
        course: the sets of aggregators that the run sees.
        f, hosts: how many hosts may be faulty, and how many there are.
        victims: the hosts that each permanent kind befalls.
    """

    kinds: tuple[str, ...]
    course: Course
    f: int
    hosts: int
    victims: Mapping[str, Sequence[int]]

    @classmethod
    def drawn(
        cls,
        n: int,
        profile: Profile,
        random_of: Callable[[str], Random],
        without: Collection[str],
        byzantine_hosts: Collection[int],
    ) -> Forecast:
        """Draw a forecast.

        Args:
            n: how many aggregators the network has at first.
            profile: which kinds may come.
            random_of: a source of randomness by name.
            without: parts to leave out, see `Storm`.
            byzantine_hosts: hosts that are Byzantine whatever is drawn; they count among the faulty.
        """
        random = random_of("storm")
        kinds = (*profile.always, *random.sample(profile.kinds, random.randint(profile.fewest, profile.most)))
        times_us: list[int] = []
        if "members" in kinds:
            moments = random_of("storm members")
            times_us = [int(moments.random() * STORM_US) for _ in range(moments.randint(1, 3))]
        course = Course.drawn(n, random_of("storm sets"), times_us, keep_places="liars" in kinds)
        hosts = [host for host in random.sample(range(n), course.f) if host not in byzantine_hosts]
        hosts = hosts[: max(0, course.f - len(byzantine_hosts))]
        lying = random.randint(1, course.f) if "liars" in kinds else 0
        victims = {kind: random.choices(hosts[lying:]) if hosts[lying:] else [] for kind in PERMANENT}
        victims["liars"] = hosts[:lying]
        return cls(
            kinds=kinds,
            course=course if "members" not in without else Course(course.sets[:1]),
            f=course.f,
            hosts=course.hosts,
            victims=victims,
        )


class Adversary(Protocol):
    """What a storm needs to let aggregators and clients break the protocol."""

    def make_byzantine(self, index: int, kinds: Sequence[type[byzantine.Behaviour]]) -> None:
        """Let an aggregator behave so from now on."""

    def add_byzantine_client(self, random: Random, until_us: int) -> None:
        """Add a client that breaks the rules until then."""


class Storm:
    """The faults of one run.

    Each kind, and each episode of a kind, has a source of randomness of its own, so that a run without one of them
    meets the others unchanged (`minimise`).

    Args:
        stage: what they act on.
        adversary: makes aggregators and clients Byzantine.
        forecast: which of them come.
        random_of: a source of randomness by name.
        without: parts to leave out: kinds, or episodes as `kind#number`.

    Attributes:
        faulty: hosts that are faulty for good, as the protocol counts.
        forgetful: those of them that lose what they have voted.
        parts: everything that could have been left out, by name.
    """

    def __init__(
        self,
        stage: Stage,
        adversary: Adversary,
        forecast: Forecast,
        random_of: Callable[[str], Random],
        without: Collection[str],
    ) -> None:
        self._stage, self._adversary, self.forecast = stage, adversary, forecast
        self._random_of, self._without = random_of, without
        self.faulty: set[int] = set()
        self.forgetful: set[int] = set()
        self.parts: list[str] = []

    def begin(self) -> None:
        """Set the conditions and enter what will happen."""
        for kind in self.forecast.kinds:
            if self._is_wanted(kind):
                self._stage.trace.mark("the run has", kind)
                self.faulty.update(self.forecast.victims.get(kind, ()))
                getattr(self, kind)(self._random_of(f"storm {kind}"))

    def members(self, random: Random) -> None:
        """Aggregators join, leave and rotate their keys."""

    def _is_wanted(self, part: str) -> bool:
        self.parts.append(part)
        return part not in self._without

    def _episodes(self, kind: str, most: int, what: Callable[[Random, int], None]) -> None:
        """Enter up to `most` times at which something begins, each with how long it lasts."""
        for number in range(self._random_of(f"storm {kind} times").randint(1, most)):
            random = self._random_of(f"storm {kind}#{number}")
            at_us = int(random.random() * STORM_US)
            lasts_us = int(min(random.expovariate(1.0) * SECOND_US, 5 * SECOND_US))
            if self._is_wanted(f"{kind}#{number}"):
                self._stage.queue.at(at_us, partial(what, random, lasts_us))

    def _note(self, what: str, *details: object) -> None:
        self._stage.faults[what] += 1
        self._stage.trace.mark(what, *details)

    # Links.

    def loss(self, random: Random) -> None:
        """Frames get lost."""
        self._stage.links.weather.loss = random.choice([0.01, 0.05, 0.2])
        self._stage.client_links.loss = random.choice([0.0, 0.1])

    def duplication(self, random: Random) -> None:
        """Frames arrive twice."""
        self._stage.links.weather.duplication = random.choice([0.02, 0.1, 0.4])

    def reordering(self, random: Random) -> None:
        """Frames overtake each other."""
        self._stage.links.weather.reordering = random.choice([0.02, 0.1, 0.4])
        self._stage.links.weather.reordering_us = random.choice([10, 100, 500]) * MILLISECOND_US

    def jitter(self, random: Random) -> None:
        """Delays vary."""
        self._stage.links.weather.jitter_us = random.choice([5, 40, 200]) * MILLISECOND_US
        self._stage.faults["jitter"] += 1

    def wan(self, random: Random) -> None:
        """The hosts stand in five regions of the world."""
        places = [random.randrange(len(_REGIONS_MS)) for _ in range(self._stage.hosts)]
        self._stage.faults["wan"] += 1
        self._stage.links.weather.latency_us = [[_REGIONS_MS[a][b] * MILLISECOND_US for b in places] for a in places]

    def slow_link(self, random: Random) -> None:
        """Each link is narrow."""
        self._stage.faults["slow_link"] += 1
        self._stage.links.weather.link_bits_per_s = random.choice([1_000_000, 10_000_000])

    def slow_uplink(self, random: Random) -> None:
        """Some hosts have a narrow uplink."""
        for index in self._some(random):
            bits_per_s = random.choice([1_000_000, 5_000_000])
            self._note("slow_uplink", "of", index, bits_per_s, "bit/s")
            self._stage.links.weather.uplink_bits_per_s[index] = bits_per_s

    def partition(self, random: Random) -> None:
        """The hosts fall into two groups without a link between them."""
        self._episodes("partition", 3, self._part)

    def _part(self, random: Random, lasts_us: int) -> None:
        hosts = list(range(self._stage.hosts))
        random.shuffle(hosts)
        size = random.randint(1, self._stage.hosts // 2)
        self._note("partition", sorted(hosts[:size]), "from", sorted(hosts[size:]), *_for(lasts_us))
        self._cut(split_pairs(hosts[:size], hosts[size:]), lasts_us)

    def one_way(self, random: Random) -> None:
        """A host sends but receives nothing, or the other way round, or one link is dead in one direction."""
        self._episodes("one_way", 3, self._deafen)

    def _deafen(self, random: Random, lasts_us: int) -> None:
        one = random.randrange(self._stage.hosts)
        others = [index for index in range(self._stage.hosts) if index != one]
        if random.random() < 0.4:
            others = [random.choice(others)]
        pairs = [(one, other) for other in others]
        if random.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        self._note("one_way", "nothing passes", ", ".join(f"{a} > {b}" for a, b in pairs), *_for(lasts_us))
        self._cut(pairs, lasts_us)

    def _cut(self, pairs: list[tuple[int, int]], lasts_us: int) -> None:
        stage = self._stage
        stage.links.cut(pairs)
        stage.queue.after(lasts_us, lambda: stage.links.heal(pairs))

    # Hosts.

    def crash(self, random: Random) -> None:
        """A process is killed, and started again later."""
        self._episodes("crash", 4, lambda own, lasts_us: self._end("crash", self._any(own), lasts_us))

    def power_cut(self, random: Random) -> None:
        """A host goes dark, and comes back later."""
        self._episodes("power_cut", 3, lambda own, lasts_us: self._end("power_cut", self._any(own), lasts_us))

    def blackout(self, random: Random) -> None:
        """All hosts go dark at once, and come back one by one."""
        self._episodes("blackout", 2, self._black_out)

    def _black_out(self, random: Random, lasts_us: int) -> None:
        self._note("blackout")
        for index in range(self._stage.hosts):
            self._end("power_cut", index, lasts_us + int(random.random() * SECOND_US))

    def disk_lost(self, random: Random) -> None:
        """A host loses its disk, and comes back with an empty one: it has forgotten what it voted."""
        for index in self.forecast.victims["disk_lost"]:
            self.forgetful.add(index)

            def lose(own: Random, lasts_us: int, index: int = index) -> None:
                self._end("disk_lost", index, lasts_us)

            self._episodes("disk_lost", 2, lose)

    def bit_flip(self, random: Random) -> None:
        """A bit of a host's log or snapshot turns; if it cannot start with that, it gets an empty disk."""
        for index in self.forecast.victims["bit_flip"]:
            self.forgetful.add(index)

            def flip(own: Random, lasts_us: int, index: int = index) -> None:
                self._end("crash", index, lasts_us)
                for _ in range(own.choice([1, 1, 8])):
                    self._stage.nodes[index].disk.flip(own)
                self._note("bit_flip", "on the disk of", index)

            self._episodes("bit_flip", 2, flip)

    def is_damage(self, index: int, error: Exception) -> bool:
        """Whether a host cannot start because of its disk; then it gets an empty one, and starts a little later."""
        if index not in self.forgetful or not isinstance(error, PotLabError):
            return False
        node = self._stage.nodes[index]
        self._note("disk_replaced", "of", index, "since", type(error).__name__)
        node.disk.wipe()
        life = node.life
        self._stage.queue.after(_REPLACED_AFTER_US, lambda: self._begin_again(index, life))
        return True

    def _end(self, how: str, index: int, lasts_us: int) -> None:
        """Let a host's process end, in one of three ways, and begin again later."""
        stage = self._stage
        node = stage.nodes[index]
        if not node.up:
            return
        torn = node.disk.torn
        self._note(how, "of", index, "which has run batch", node.replica.executed, *_for(lasts_us))
        node.kill(power=how != "crash")
        if how == "disk_lost":
            node.disk.wipe()
        stage.faults["torn_write"] += node.disk.torn - torn
        life = node.life
        stage.queue.after(lasts_us, lambda: self._begin_again(index, life))

    def _begin_again(self, index: int, life: int) -> None:
        node = self._stage.nodes[index]
        if not node.up and node.life == life:
            self._stage.trace.mark("starts again", index)
            node.start()

    def standstill(self, random: Random) -> None:
        """A process stands still for a while and goes on as if nothing had been."""
        self._episodes("standstill", 4, self._stop)

    def _stop(self, random: Random, lasts_us: int) -> None:
        index = self._any(random)
        self._note("standstill", "of", index, *_for(lasts_us))
        self._stage.nodes[index].stop(self._stage.queue.now_us + lasts_us)

    def slow_host(self, random: Random) -> None:
        """Some processors are slow."""
        for index in self._some(random):
            turn_us = random.choice([5, 20, 100]) * MILLISECOND_US
            self._note("slow_host", index, "needs", turn_us // MILLISECOND_US, "ms a turn")
            self._stage.nodes[index].machine.turn_us = turn_us

    def slow_disk(self, random: Random) -> None:
        """Some disks take long to sync, always or for a while."""
        for index in self._some(random):
            sync_us = random.choice([4, 30, 150]) * MILLISECOND_US
            self._note("slow_disk", "of", index, sync_us // MILLISECOND_US, "ms a sync")
            self._stage.nodes[index].disk.sync_us = sync_us
        self._episodes("slow_disk", 2, self._stall)

    def _stall(self, random: Random, lasts_us: int) -> None:
        index = self._any(random)
        disk = self._stage.nodes[index].disk
        usual_us, disk.sync_us = disk.sync_us, 500 * MILLISECOND_US
        self._note("stalled_disk", "of", index, *_for(lasts_us))

        def restore() -> None:
            disk.sync_us = usual_us

        self._stage.queue.after(lasts_us, restore)

    def full_disk(self, random: Random) -> None:
        """A disk has no room for a while: its process ends, and starts again when there is some."""
        self._episodes("full_disk", 2, self._fill)

    def _fill(self, random: Random, lasts_us: int) -> None:
        index = self._any(random)
        node = self._stage.nodes[index]
        node.disk.is_full = True
        self._note("full_disk", "of", index, *_for(lasts_us))

        def clear() -> None:
            node.disk.is_full = False
            self._begin_again(index, node.life)

        self._stage.queue.after(lasts_us, clear)

    # Clocks.

    def skew(self, random: Random) -> None:
        """Clocks are off by what the network tolerates."""
        for node in self._stage.nodes:
            node.clock.skew_ms = random.randint(-250, 250)
            self._stage.faults["skew"] += 1

    def drift(self, random: Random) -> None:
        """Clocks run at different rates."""
        for node in self._stage.nodes:
            node.clock.drift_ppm = random.randint(-200, 200)
            self._stage.faults["drift"] += 1

    def clock_jump(self, random: Random) -> None:
        """A host's clock is set, by seconds or minutes, and later back."""
        for index in self.forecast.victims["clock_jump"]:
            clock = self._stage.nodes[index].clock

            def jump(own: Random, lasts_us: int, index: int = index, clock: Clock = clock) -> None:
                by_ms = own.choice([-120_000, -10_000, -3_000, 3_000, 10_000, 120_000])
                self._note("clock_jump", "of", index, "by", by_ms, "ms", *_for(lasts_us))
                clock.move(by_ms)
                self._stage.queue.after(lasts_us, lambda: clock.move(-by_ms))

            self._episodes("clock_jump", 2, jump)

    # Byzantine aggregators and clients.

    def liars(self, random: Random) -> None:
        """Some aggregators break the protocol."""
        for number, index in enumerate(self.forecast.victims["liars"]):
            kinds = random.sample(byzantine.KINDS, random.choice([1, 1, 2, 3]))
            if self._is_wanted(f"liars#{number}"):
                self._stage.faults["liar"] += 1
                self._adversary.make_byzantine(index, kinds)

    def lying_client(self, random: Random) -> None:
        """A client sends conflicting requests, garbage, and everything twice."""
        self._stage.trace.mark("a client lies")
        self._adversary.add_byzantine_client(random, STORM_US)

    # The end.

    def end(self) -> None:
        """All faults end, but Byzantine aggregators: links are whole, every host is up, disks are fast, clocks are
        right.
        """
        stage = self._stage
        stage.trace.mark("the storm is over")
        stage.links.heal()
        stage.links.weather.calm_down()
        stage.links.weather.link_bits_per_s = None
        stage.links.weather.uplink_bits_per_s.clear()
        stage.client_links.loss = 0.0
        for node in stage.nodes:
            node.disk.sync_us = min(node.disk.sync_us, 4 * MILLISECOND_US)
            node.disk.is_full = False
            node.machine.turn_us = min(node.machine.turn_us, MILLISECOND_US)
            node.stop(0)
            if abs(node.clock.skew_ms) > 250:
                node.clock.skew_ms = 0
            if node.is_correct and node.index in self.faulty - self.forgetful:
                node.kill()  # a process never lets its time go back: only a new one follows a clock that is right again
            if not node.up:
                node.start()

    def _some(self, random: Random) -> list[int]:
        return [index for index in range(self._stage.hosts) if random.random() < 0.4] or [0]

    def _any(self, random: Random) -> int:
        return random.randrange(self._stage.hosts)


def _for(lasts_us: int) -> tuple[str, str]:
    return "for", f"{lasts_us / SECOND_US:.1f} s"


def weather_of(hosts: int, random: Random) -> Weather:
    """A usual local network."""
    return Weather.even(hosts, random.choice([200, 500, 2_000]))
