"""Expected values with confidence intervals, over seeds and distributions of stake."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from msgspec import structs

from pot_lab.protocol.parameters import GRAINS_PER_POT, Parameters
from pot_lab.simulator.economics.game import Game
from pot_lab.simulator.economics.strategies import STRATEGIES, Strategy

DISTRIBUTIONS: dict[str, tuple[int, ...]] = {
    "equal": (100,) * 8,
    "long tail": (320, 160, 107, 80, 64, 53, 46, 40),
    "whale": (400, 60, 60, 60, 60, 60, 60, 40),
}
"""Stakes of the honest validators in POT, about 800 each time."""
PARAMETERS = structs.replace(Parameters(), max_claims_per_order=24)
"""The default ones, with fewer places for an order, so that taking all of them can be played quickly."""
_STUDENT_95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
"""Student's quantiles of a two-sided 95 % interval, by degrees of freedom from 1."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a strategy brings in POT an order, beside what the same accounts get honestly with the same seeds.

    Attributes:
        dishonest_pot, honest_pot: means; `gain_pot` their difference.
        dishonest_low_pot .. gain_high_pot: ends of 95 % confidence intervals.
        open: the known limit of security.md that lets it pay, if one does.
    """

    strategy: str
    role: str
    words: str
    stakes: str
    seeds: int
    dishonest_pot: float
    dishonest_low_pot: float
    dishonest_high_pot: float
    honest_pot: float
    gain_pot: float
    gain_low_pot: float
    gain_high_pot: float
    open: str

    @property
    def pays(self) -> bool:
        """Whether it brings more than honest work and more than nothing, with 95 % confidence."""
        return self.gain_low_pot > 0 and self.dishonest_low_pot > 0


def estimate(strategy: Strategy, stakes: str, seeds: Iterable[int]) -> Estimate:
    """Play a strategy and its honest counterpart on one order a seed."""
    pairs = []
    for seed in seeds:
        gains = []
        for dishonest in (True, False):
            game = Game(seed, DISTRIBUTIONS[stakes], PARAMETERS)
            gains.append(game.play(strategy.plan(game, dishonest)) / GRAINS_PER_POT)
        pairs.append((gains[0], gains[1]))
    cheat, honest = _mean([one for one, _ in pairs]), _mean([other for _, other in pairs])
    gain = _mean([one - other for one, other in pairs])
    return Estimate(
        strategy=strategy.name,
        role=strategy.role,
        words=strategy.words,
        stakes=stakes,
        seeds=len(pairs),
        dishonest_pot=cheat[0],
        dishonest_low_pot=cheat[1],
        dishonest_high_pot=cheat[2],
        honest_pot=honest[0],
        gain_pot=gain[0],
        gain_low_pot=gain[1],
        gain_high_pot=gain[2],
        open=strategy.open,
    )


def estimates(seeds: Sequence[int], names: Sequence[str] = ()) -> list[Estimate]:
    """All strategies, or those of these names, under each distribution of stake."""
    chosen = [each for each in STRATEGIES if not names or each.name in names]
    return [estimate(strategy, stakes, seeds) for strategy in chosen for stakes in DISTRIBUTIONS]


def facts(found: Iterable[Estimate]) -> list[dict[str, Any]]:
    """Estimates as plain values, amounts rounded to a thousandth of a POT."""
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(each).items()}
        | {"pays": each.pays}
        for each in found
    ]


def _mean(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % confidence interval."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((each - mean) ** 2 for each in values) / max(1, len(values) - 1) / len(values))
    freedom = len(values) - 1
    quantile = math.inf if not freedom else _STUDENT_95[freedom - 1] if freedom < 10 else 1.96 + 2.5 / freedom
    half = quantile * spread if spread else 0.0
    return mean, mean - half, mean + half
