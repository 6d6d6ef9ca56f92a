"""How many replicas make a decision, for every size of the set.

n replicas tolerate f = floor((n-1)/3) faulty ones. A quorum is q = ceil((n+f+1)/2): any two quorums then share at least
f+1 replicas, so one of them is correct, and the n-f correct ones alone can form one. The paper's 2f+1 is the same
number only where n = 3f+1: at n=30 two quorums of 19 may share just 8, all of them faulty.
"""

from __future__ import annotations

from pot_lab.errors import PotLabError

SMALLEST_SET = 4
LARGEST_SET = 100


class BadReplicaCount(PotLabError):
    """A set of replicas is too small to tolerate a fault or larger than what is tested."""


def faulty(n: int) -> int:
    """The number f of faulty replicas that n replicas tolerate (Castro and Liskov, section 2)."""
    if not SMALLEST_SET <= n <= LARGEST_SET:
        raise BadReplicaCount("a set of aggregators has a bad size", seen=n, wanted=f"{SMALLEST_SET} to {LARGEST_SET}")
    return (n - 1) // 3


def quorum(n: int) -> int:
    """The number q of replicas whose votes decide: ceil((n + f + 1) / 2)."""
    return (n + faulty(n) + 2) // 2


def weak_quorum(n: int) -> int:
    """f+1: so many equal statements include a correct replica's."""
    return faulty(n) + 1
