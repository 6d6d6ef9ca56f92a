"""The arguments of `Lab.order` against their units, before anything is computed: each refusal names the likely meaning.

A number in a wrong unit is accepted by every later check: a baseline of 90 for an accuracy is a valid record that no
model can beat, and one of 0.5 for a loss in micro-nats too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from pot_lab.cards.scores import DISTANCES, MILLIONTHS, NATS, SHARES, base_name, decimals_of
from pot_lab.notebook.errors import BadArgument, BadQuantity
from pot_lab.notebook.quantities import exact_fraction, grains, milliseconds, pot, seconds_text
from pot_lab.protocol.errors import BadWindows, RewardTooSmall
from pot_lab.protocol.parameters import GRAINS_PER_POT, Direction, Parameters, best_score, score_direction
from pot_lab.protocol.records import MICRO

_LARGEST_NATS = 50
_LEAST_DISTANCE = 100
"""Units of 10^-decimals below which a baseline was meant without them, where there are at least three decimals."""


def check_score_name(score: object) -> str:
    """The score function's name, if it can be one.

    Raises:
        BadArgument: it is not text.
    """
    if not isinstance(score, str):
        raise BadArgument("`score` is not a name", seen=type(score).__name__, wanted='a name such as "accuracy"')
    return score


def check_labels(title: object, tags: object) -> None:
    """Raise BadArgument for a title that is no text, or tags that are no sequence of texts."""
    if not isinstance(title, str):
        raise BadArgument("`title` is not text", seen=title, wanted='e.g. "digits"')
    if isinstance(tags, str) or not isinstance(tags, Sequence) or not all(isinstance(tag, str) for tag in tags):
        wanted = f"a list: [{tags!r}]" if isinstance(tags, str) else 'e.g. ["vision", "cnn"]'
        raise BadArgument("`tags` is not a list of texts", seen=tags, wanted=wanted)


def check_model(model: object) -> None:
    """Raise BadArgument for a class where an instance is wanted."""
    if inspect.isclass(model):
        name = model.__name__
        raise BadArgument("`model` is a class, not a module", seen=name, wanted=f"an instance, e.g. {name}()")


def check_money(
    parameters: Parameters,
    *,
    reward: str | float | Decimal,
    fee: str | float | Decimal | None = None,
    bond: str | float | Decimal | None = None,
    claim_bond: str | float | Decimal | None = None,
) -> None:
    """Check amounts against the network's minimums, in POT.

    Raises:
        BadQuantity: an amount cannot be read.
        BadArgument: an amount looks like grains.
        RewardTooSmall: an amount is below the network's minimum.
    """
    for name, amount, least in (
        ("reward", reward, parameters.min_reward_grains),
        ("fee", fee, parameters.min_fee_grains),
        ("bond", bond, parameters.min_bond_grains),
        ("claim_bond", claim_bond, parameters.min_claim_bond_grains),
    ):
        if amount is None:
            continue
        try:
            given = grains(amount)
        except BadQuantity as error:
            error.message = f"`{name}`: {error.message}"
            raise
        if given >= GRAINS_PER_POT * GRAINS_PER_POT:
            likely = f"POT, not grains: {pot(given // GRAINS_PER_POT)}"
            raise BadArgument(f"`{name}` is more POT than there can be", seen=amount, wanted=likely)
        if given < least:
            raise RewardTooSmall(
                f"`{name}` is below the network's minimum",
                seen=f"{pot(given)} POT",
                wanted=f"at least {pot(least)} POT",
            )
    if bond is not None and grains(bond) < (least := parameters.client_bond_grains(grains(reward))):
        raise RewardTooSmall(
            "`bond` is too small for this reward: it is what the providers get if the test data are not released",
            seen=f"{pot(grains(bond))} POT",
            wanted=f"at least {pot(least)} POT",
        )
    if claim_bond is not None and grains(claim_bond) > (most := parameters.claim_bond_grains(grains(reward))):
        raise RewardTooSmall(
            "`claim_bond` is more than this reward is worth to a provider",
            seen=f"{pot(grains(claim_bond))} POT",
            wanted=f"at most {pot(most)} POT",
        )


def check_durations(
    parameters: Parameters,
    train_for: str | float | timedelta,
    windows: Mapping[str, str | float | timedelta] | None = None,
) -> None:
    """Check the training time against the network's bounds, in seconds, and that `windows` names lengths.

    Raises:
        BadQuantity: a duration cannot be read.
        BadArgument: `windows` is no mapping.
        BadWindows: the training time is outside the network's bounds.
    """
    if windows is not None and not isinstance(windows, Mapping):
        raise BadArgument("`windows` is not a dict", seen=windows, wanted='e.g. {"challenge": "30s"}')
    given_ms = milliseconds(train_for)
    low_ms, high_ms = parameters.min_train_ms, parameters.max_train_ms
    if low_ms <= given_ms <= high_ms:
        return
    wanted = f"{low_ms / 1000:g} s .. {seconds_text(high_ms)}"
    if isinstance(train_for, int | float) and low_ms <= train_for <= high_ms:
        wanted += f"; a number counts seconds: {train_for / 1000:.10g} for {train_for:.10g} ms"
    raise BadWindows("`train_for` is outside the network's bounds", seen=f"{given_ms / 1000:.10g} s", wanted=wanted)


def check_baseline(score: str, version: int, baseline: float | Fraction | None, margin: float | Fraction = 0.0) -> None:
    """Check baseline and margin against the unit of the score function, and that a model can win.

    Args:
        score: the function's full name, e.g. `mse[decimals=3]`.
        version: its version.
        baseline, margin: as `Lab.order` takes them, in the function's unit for one example.
    Raises:
        BadQuantity: one is not a finite number.
        BadArgument: one looks like another unit, or no score can be that much better.
    """
    gain = exact_fraction(margin, "margin")
    if gain < 0:
        raise BadArgument("`margin` is negative", seen=margin, wanted="0 or more, e.g. 0.01 for 1 % more accuracy")
    _check_unit("margin", score, gain)
    if baseline is None:
        return
    base = exact_fraction(baseline, "baseline")
    if base < 0:
        raise BadArgument("`baseline` is negative, and scores are not", seen=baseline, wanted="0 or more")
    _check_unit("baseline", score, base)
    check_winnable(score, version, base, gain)


def check_winnable(score: str, version: int, base: Fraction, gain: Fraction, whose: str = "`baseline`") -> None:
    """Check that some score is better than a baseline by a margin.

    Args:
        score, version: the function.
        base, gain: baseline and margin for one example, in the function's unit.
        whose: what the baseline is, for the message.
    Raises:
        BadArgument: no score can be.
    """
    best = Fraction(best_score(score, version))
    room = base if score_direction(score, version) is Direction.LOWER else best - base
    if room <= 0 or room < gain:
        more = f" and a margin of {float(gain):g}" if gain else ""
        raise BadArgument(
            f"no model can win: the best score possible is {best}",
            seen=f"{whose} {float(base):g}{more}",
            wanted="a baseline that can be beaten by the margin",
        )


def _check_unit(what: str, score: str, value: Fraction) -> None:
    """Raise BadArgument for a number that is one of another unit than the function's."""
    name, number = base_name(score), float(value)
    if value == 0:
        return
    if name in SHARES and value > 1:
        likely = f": {number / 100:g} for {number:g} %" if value <= 100 else " between 0 and 1"
        raise BadArgument(f"`{what}` is above 1, and {name} is a share", seen=f"{number:g}", wanted=f"a share{likely}")
    if name in MILLIONTHS:
        if value > MICRO:
            raise BadArgument(f"`{what}` is above the best {name}", seen=f"{number:g}", wanted=f"at most {MICRO}")
        if value <= 100:
            share = value if value <= 1 else value / 100
            likely = f"millionths: {float(share * MICRO):.10g} for {float(share):g}"
            raise BadArgument(f"`{what}` is not in the unit of {name}", seen=f"{number:g}", wanted=likely)
    if name in NATS and value <= _LARGEST_NATS:
        likely = f"micro-nats: {float(value * MICRO):.10g} for {number:g} nats"
        if name == "perplexity" and what == "baseline" and value > 1:
            likely += f", {round(math.log(number) * MICRO)} for a perplexity of {number:g}"
        raise BadArgument(f"`{what}` is not in the unit of {name}", seen=f"{number:g}", wanted=likely)
    if name in DISTANCES and (decimals := decimals_of(score)) >= 3 and value < _LEAST_DISTANCE:
        likely = f"units of 10^-{decimals}: {float(value * 10**decimals):.10g} for {number:g}"
        raise BadArgument(f"`{what}` is not in the unit of {name}", seen=f"{number:g}", wanted=likely)
