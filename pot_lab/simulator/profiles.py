"""What kinds of faults a run has."""

from __future__ import annotations

from dataclasses import dataclass

from pot_lab.errors import PotLabError, one_of
from pot_lab.simulator.virtual_time import SECOND_US

STORM_US = 10 * SECOND_US
"""How long the faults of a run last."""


class UnknownProfile(PotLabError):
    """There is no profile of this name.

    What to do: choose one of the profiles that the message lists.
    """


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Which kinds of faults a run may meet.

    Attributes:
        kinds: names of methods of `Storm`.
        fewest, most: how many of them one run meets.
        always: those that each run meets besides.
    """

    kinds: tuple[str, ...]
    fewest: int
    most: int
    always: tuple[str, ...] = ()


_NETWORK = ("loss", "duplication", "reordering", "jitter", "partition", "one_way")
_HOSTS = ("crash", "power_cut", "blackout", "slow_disk", "full_disk", "slow_host", "standstill")
_CLOCKS = ("skew", "drift", "clock_jump")
_FAR = ("wan", "slow_link", "slow_uplink")
_DISKS = ("disk_lost", "bit_flip")


PROFILES: dict[str, Profile] = {
    "everything": Profile(
        kinds=(*_NETWORK, *_HOSTS, *_CLOCKS, *_FAR, *_DISKS, "liars", "lying_client", "members"), fewest=1, most=8
    ),
    "network": Profile(kinds=_NETWORK, fewest=1, most=6),
    "partitions": Profile(kinds=("partition", "one_way"), fewest=1, most=2),
    "crashes": Profile(kinds=_HOSTS, fewest=1, most=5),
    "disks": Profile(kinds=(*_DISKS, "full_disk", "slow_disk", "power_cut"), fewest=1, most=4),
    "amnesia": Profile(kinds=("disk_lost", "crash", "loss"), fewest=3, most=3),
    "clocks": Profile(kinds=_CLOCKS, fewest=1, most=3),
    "wan": Profile(kinds=(*_FAR, "jitter", "loss"), fewest=1, most=5),
    "byzantine": Profile(kinds=("liars", "lying_client"), fewest=1, most=2),
    "members": Profile(
        kinds=(*_NETWORK, "crash", "power_cut", "blackout", "disk_lost"), fewest=0, most=4, always=("members",)
    ),
    "calm": Profile(kinds=(), fewest=0, most=0),
}


PERMANENT = ("clock_jump", "disk_lost", "bit_flip")
"""Kinds that make a host faulty for the protocol, each one of the hosts that may be so besides the Byzantine ones."""


def profile_of(name: str) -> Profile:
    """The profile of this name; raises UnknownProfile."""
    if name not in PROFILES:
        raise UnknownProfile("the simulator has no such profile", seen=name, wanted=one_of(name, PROFILES))
    return PROFILES[name]
