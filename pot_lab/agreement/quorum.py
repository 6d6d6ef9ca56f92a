"""How many members of a set make a decision: replicas, signers of a contract, holders of shares.

n replicas tolerate f = floor((n-1)/3) faulty ones. A quorum is q = ceil((n+f+1)/2): any two quorums then share at least
f+1 replicas, so one of them is correct, and the n-f correct ones alone can form one. The paper's 2f+1 is the same
number only where n = 3f+1: at n=30 two quorums of 19 may share just 8, all of them faulty.
"""

from __future__ import annotations

from pot_lab.errors import PotLabError

SMALLEST_SET = 4
LARGEST_SET = 100


class BadReplicaCount(PotLabError):
    """A set of replicas is too small to tolerate a fault, larger than what is tested, or empty.

    What to do: run 4 to 100 aggregators.
    """


def check_size(n: int) -> None:
    """Check the size of a set of replicas that agree on an order.

    Raises:
        BadReplicaCount: it is not from `SMALLEST_SET` to `LARGEST_SET`.
    """
    if not SMALLEST_SET <= n <= LARGEST_SET:
        raise BadReplicaCount("a set of aggregators has a bad size", seen=n, wanted=f"{SMALLEST_SET} to {LARGEST_SET}")


def faulty(n: int) -> int:
    """The number f of faulty members that a set of n tolerates (Castro and Liskov 1999, section 2).

    Raises:
        BadReplicaCount: the set is empty.
    """
    if n < 1:
        raise BadReplicaCount("a set that decides has no member", seen=n, wanted="1 or more")
    return (n - 1) // 3


def quorum(n: int) -> int:
    """The number q of members whose votes decide: ceil((n + f + 1) / 2); raises BadReplicaCount as `faulty` does."""
    return (n + faulty(n) + 2) // 2


def correct(n: int) -> int:
    """n-f: so many replicas are correct at least. So many answers can be waited for; a key in shares of which that many
    open it stays shut to any coalition that would not also stop the network.
    """
    return n - faulty(n)


def weak_quorum(n: int) -> int:
    """f+1: so many equal statements include a correct member's; raises BadReplicaCount as `faulty` does."""
    return faulty(n) + 1
