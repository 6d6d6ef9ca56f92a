"""What befalls a run: profiles name the kinds of faults, a seed decides which of them come, when and how hard.

At most f aggregators are faulty in a way that the protocol must tolerate for ever: liars, those whose disk was lost,
those whose clock was set far off. Everything else, crashes of any number, power cuts of all at once, partitions, loss,
may befall everybody, and ends when the storm ends: then the network has to recover by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from pot_lab.errors import PotLabError
from pot_lab.simulator import byzantine
from pot_lab.simulator.links import Weather, split_pairs
from pot_lab.simulator.virtual_time import MILLISECOND_US, SECOND_US

if TYPE_CHECKING:
    from pot_lab.simulator.simulation import Simulation

STORM_US = 10 * SECOND_US
_REGIONS_MS = (
    (1, 15, 45, 110, 120),
    (15, 1, 36, 100, 115),
    (45, 36, 1, 75, 90),
    (110, 100, 75, 1, 40),
    (120, 115, 90, 40, 1),
)
"""One way, in milliseconds: between five regions of the world."""


class UnknownProfile(PotLabError):
    """There is no profile of this name."""


@dataclass(frozen=True)
class Profile:
    """Which kinds of faults a run may meet.

    Attributes:
        kinds: names of methods of `Storm`.
        fewest, most: how many of them one run meets.
    """

    kinds: tuple[str, ...]
    fewest: int
    most: int


_NETWORK = ("loss", "duplication", "reordering", "jitter", "partition", "one_way")
_HOSTS = ("crash", "power_cut", "blackout", "slow_disk")
_CLOCKS = ("skew", "drift", "clock_jump")
_FAR = ("wan", "slow_link", "slow_uplink")

PROFILES: dict[str, Profile] = {
    "calm": Profile((), 0, 0),
    "network": Profile(_NETWORK, 1, 6),
    "partitions": Profile(("partition", "one_way"), 1, 2),
    "crashes": Profile(_HOSTS, 1, 4),
    "amnesia": Profile(("disk_lost", "crash", "loss"), 3, 3),
    "clocks": Profile(_CLOCKS, 1, 3),
    "wan": Profile((*_FAR, "jitter", "loss"), 1, 5),
    "byzantine": Profile(("liars",), 1, 1),
    "everything": Profile((*_NETWORK, *_HOSTS, *_CLOCKS, *_FAR, "disk_lost", "liars"), 1, 7),
}


def profile_of(name: str) -> Profile:
    """The profile of this name; raises UnknownProfile."""
    if name not in PROFILES:
        raise UnknownProfile("the simulator has no such profile", seen=name, wanted=", ".join(PROFILES))
    return PROFILES[name]


class Storm:
    """The faults of one run.

    Args:
        simulation: what they befall.
        profile: which kinds may come.
        random: decides.
    """

    def __init__(self, simulation: Simulation, profile: Profile, random: Random) -> None:
        self._sim, self._random = simulation, random
        self.faulty: set[int] = set()
        self.lost_disk: set[int] = set()
        self.kinds = random.sample(profile.kinds, random.randint(profile.fewest, profile.most))
        if "liars" in self.kinds:  # before others take up the places of the faulty
            self.kinds = ["liars", *(kind for kind in self.kinds if kind != "liars")]

    def begin(self) -> None:
        """Set the conditions and enter what will happen."""
        for kind in self.kinds:
            self._sim.trace.mark(-1, "the run has", kind)
            getattr(self, kind)()

    def _may_be_faulty(self) -> int | None:
        """A host that may become faulty for good, if one more may."""
        free = [index for index in range(self._sim.n) if index not in self.faulty]
        if len(self.faulty) >= self._sim.f or not free:
            return None
        chosen = self._random.choice(free)
        self.faulty.add(chosen)
        return chosen

    def _episodes(self, most: int, what: Callable[[int], None]) -> None:
        """Enter up to `most` times at which something begins, each with how long it lasts."""
        for _ in range(self._random.randint(1, most)):
            at_us = int(self._random.random() * STORM_US)
            lasts_us = int(min(self._random.expovariate(1.0) * SECOND_US, 5 * SECOND_US))
            self._sim.queue.at(at_us, lambda lasts_us=lasts_us: what(lasts_us))  # type: ignore[misc]

    def _note(self, what: str, *details: object) -> None:
        self._sim.faults[what] += 1
        self._sim.trace.mark(-1, what, *details)

    # Links.

    def loss(self) -> None:
        """Frames get lost."""
        self._sim.links.weather.loss = self._random.choice([0.01, 0.05, 0.2])
        self._sim.client_loss = self._random.choice([0.0, 0.1])

    def duplication(self) -> None:
        """Frames arrive twice."""
        self._sim.links.weather.duplication = self._random.choice([0.02, 0.1, 0.4])

    def reordering(self) -> None:
        """Frames overtake each other."""
        self._sim.links.weather.reordering = self._random.choice([0.02, 0.1, 0.4])
        self._sim.links.weather.reordering_us = self._random.choice([10, 100, 500]) * MILLISECOND_US

    def jitter(self) -> None:
        """Delays vary."""
        self._sim.links.weather.jitter_us = self._random.choice([5, 40, 200]) * MILLISECOND_US

    def wan(self) -> None:
        """The hosts stand in five regions of the world."""
        places = [self._random.randrange(len(_REGIONS_MS)) for _ in range(self._sim.n)]
        self._sim.faults["wan"] += 1
        self._sim.links.weather.latency_us = [[_REGIONS_MS[a][b] * MILLISECOND_US for b in places] for a in places]

    def slow_link(self) -> None:
        """Each link is narrow."""
        self._sim.faults["slow_link"] += 1
        self._sim.links.weather.link_bits_per_s = self._random.choice([1_000_000, 10_000_000])

    def slow_uplink(self) -> None:
        """Some hosts have a narrow uplink."""
        for index in self._some():
            self._note("slow_uplink", index)
            self._sim.links.weather.uplink_bits_per_s[index] = self._random.choice([1_000_000, 5_000_000])

    def partition(self) -> None:
        """The hosts fall into two groups that do not hear each other."""
        self._episodes(3, self._part)

    def _part(self, lasts_us: int) -> None:
        hosts = list(range(self._sim.n))
        self._random.shuffle(hosts)
        size = self._random.randint(1, self._sim.n // 2)
        pairs = split_pairs(hosts[:size], hosts[size:])
        self._note("partition", sorted(hosts[:size]), "from", sorted(hosts[size:]))
        self._cut(pairs, lasts_us)

    def one_way(self) -> None:
        """A host is heard but hears nothing, or the other way round, or one link is dead in one direction."""
        self._episodes(3, self._deafen)

    def _deafen(self, lasts_us: int) -> None:
        one = self._random.randrange(self._sim.n)
        others = [index for index in range(self._sim.n) if index != one]
        if self._random.random() < 0.4:
            others = [self._random.choice(others)]
        pairs = [(one, other) for other in others]
        if self._random.random() < 0.5:
            pairs = [(b, a) for a, b in pairs]
        self._note("one_way", pairs)
        self._cut(pairs, lasts_us)

    def _cut(self, pairs: list[tuple[int, int]], lasts_us: int) -> None:
        sim = self._sim
        sim.links.cut(pairs)
        sim.queue.after(lasts_us, lambda: sim.links.heal(pairs))

    # Hosts.

    def crash(self) -> None:
        """A process is killed, and started again later."""
        self._episodes(4, lambda lasts_us: self._end(self._random.randrange(self._sim.n), lasts_us, power=False))

    def power_cut(self) -> None:
        """A host goes dark, and comes back later."""
        self._episodes(3, lambda lasts_us: self._end(self._random.randrange(self._sim.n), lasts_us, power=True))

    def blackout(self) -> None:
        """All hosts go dark at once, and come back one by one."""
        self._episodes(2, self._black_out)

    def _black_out(self, lasts_us: int) -> None:
        self._note("blackout")
        for index in range(self._sim.n):
            self._end(index, lasts_us + int(self._random.random() * SECOND_US), power=True)

    def disk_lost(self) -> None:
        """A host loses its disk, and comes back with an empty one: it has forgotten what it voted."""
        index = self._may_be_faulty()
        if index is not None:
            self.lost_disk.add(index)
            self._episodes(2, lambda lasts_us: self._end(index, lasts_us, power=True, wipe=True))

    def _end(self, index: int, lasts_us: int, *, power: bool, wipe: bool = False) -> None:
        sim = self._sim
        node = sim.nodes[index]
        if not node.up:
            return
        torn = node.disk.torn
        node.kill(power=power)
        self._note("disk_lost" if wipe else "power_cut" if power else "crash", index, "at", node.replica.executed)
        if wipe:
            node.disk.wipe()
        sim.faults["torn_write"] += node.disk.torn - torn
        life = node.life
        sim.queue.after(lasts_us, lambda: self._begin_again(index, life))

    def _begin_again(self, index: int, life: int) -> None:
        node = self._sim.nodes[index]
        if not node.up and node.life == life:
            self._sim.trace.mark(index, "starts again")
            node.start()

    def slow_disk(self) -> None:
        """Some disks take long to sync, always or for a while."""
        for index in self._some():
            self._note("slow_disk", index)
            self._sim.nodes[index].disk.sync_us = self._random.choice([4, 30, 150]) * MILLISECOND_US
        self._episodes(2, self._stall)

    def _stall(self, lasts_us: int) -> None:
        disk = self._sim.nodes[self._random.randrange(self._sim.n)].disk
        usual_us, disk.sync_us = disk.sync_us, 500 * MILLISECOND_US
        self._note("stalled_disk")

        def mend() -> None:
            disk.sync_us = usual_us

        self._sim.queue.after(lasts_us, mend)

    # Clocks.

    def skew(self) -> None:
        """Clocks are off by what the network tolerates."""
        for node in self._sim.nodes:
            node.clock.skew_ms = self._random.randint(-250, 250)
            self._sim.faults["skew"] += 1

    def drift(self) -> None:
        """Clocks run at different rates."""
        for node in self._sim.nodes:
            node.clock.drift_ppm = self._random.randint(-200, 200)
            self._sim.faults["drift"] += 1

    def clock_jump(self) -> None:
        """Somebody sets a host's clock, by seconds or minutes, and later back."""
        index = self._may_be_faulty()
        if index is None:
            return

        def jump(lasts_us: int) -> None:
            clock = self._sim.nodes[index].clock
            by_ms = self._random.choice([-120_000, -10_000, -3_000, 3_000, 10_000, 120_000])
            self._note("clock_jump", index, by_ms, "ms")
            clock.move(by_ms)
            self._sim.queue.after(lasts_us, lambda: clock.move(-by_ms))

        self._episodes(2, jump)

    # Liars.

    def liars(self) -> None:
        """Some aggregators do not do as the protocol says."""
        for _ in range(self._random.randint(1, max(1, self._sim.f))):
            index = self._may_be_faulty()
            if index is None:
                return
            self._sim.faults["liar"] += 1
            self._sim.make_liar(index, self._random.sample(byzantine.KINDS, self._random.choice([1, 1, 2, 3])))

    # The end.

    def end(self) -> None:
        """All faults end, but for the liars: links are whole, everybody is up, disks are quick, clocks are right."""
        sim = self._sim
        sim.trace.mark(-1, "the storm is over")
        sim.links.heal()
        sim.links.weather.calm_down()
        sim.links.weather.link_bits_per_s = None
        sim.links.weather.uplink_bits_per_s.clear()
        sim.client_loss = 0.0
        for node in sim.nodes:
            node.disk.sync_us = min(node.disk.sync_us, 4 * MILLISECOND_US)
            if abs(node.clock.skew_ms) > 250:
                node.clock.skew_ms = 0
            if node.is_correct and node.index in self.faulty - self.lost_disk:
                node.kill()  # a process never lets its time go back, so only a new one believes a clock set right
            if not node.up:
                node.start()

    def _some(self) -> list[int]:
        return [index for index in range(self._sim.n) if self._random.random() < 0.4] or [0]


def weather_of(hosts: int, random: Random) -> Weather:
    """A usual local network."""
    return Weather.even(hosts, random.choice([200, 500, 2_000]))
