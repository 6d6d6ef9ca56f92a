"""Stock notebooks, and the seed with which the stock provider trains."""

from __future__ import annotations

from pot_lab.jobs.recipes import training_seed
from tests.protocol.world import key


def test_two_providers_train_with_two_seeds_and_one_with_the_same_again() -> None:
    seeds = [training_seed(key(f"provider {number}").address) for number in range(20)]
    assert len(set(seeds)) == 20
    assert seeds[0] == training_seed(key("provider 0").address)
    assert training_seed(b"\xff" * 20) == (1 << 31) - 1 and training_seed(bytes(20)) == 0
