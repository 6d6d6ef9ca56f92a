"""Durations and amounts as people write them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pot_lab.notebook.errors import BadQuantity
from pot_lab.notebook.quantities import exact_fraction, grains, milliseconds, pot, seconds_text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("10min", 600_000),
        ("1h 30min", 5_400_000),
        ("20s", 20_000),
        ("1.5s", 1_500),
        (7, 7_000),
        ("7", 7_000),
        (0.25, 250),
        (timedelta(minutes=2), 120_000),
        (timedelta(days=1, seconds=2, microseconds=3_900), 86_402_003),
        ("250ms", 250),
        ("2d", 172_800_000),
        (0.001, 1),
        ("1.9ms", 1),
        ("999999999999999ms", 10**15 - 1),
    ],
)
def test_durations(text: object, wanted: int) -> None:
    assert milliseconds(text) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "10 parsecs",
        "-5s",
        0,
        -1,
        True,
        None,
        "5s and more",
        float("nan"),
        "1e400d",
        0.0009,
        "0.9ms",
        "1000000000000000ms",
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(BadQuantity, match="duration"):
        milliseconds(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [True, None, [25]])
def test_other_types_are_refused_with_an_example_of_what_is_wanted(value: object) -> None:
    with pytest.raises(BadQuantity, match=r'wanted: e\.g\. "10min"'):
        milliseconds(value)  # type: ignore[arg-type]
    with pytest.raises(BadQuantity, match=r"wanted: e\.g\. 25"):
        grains(value)  # type: ignore[arg-type]


def test_amounts_are_exact() -> None:
    assert grains("0.1") == 100_000_000
    assert grains(25) == 25 * 10**9
    assert grains(Decimal("0.000000001")) == 1


@pytest.mark.parametrize("amount", ["-1", "0.0000000001", "much", True, None, float("inf"), float("nan")])
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(BadQuantity):
        grains(amount)  # type: ignore[arg-type]


@given(st.integers(0, 10**18))
def test_writing_and_reading_an_amount_changes_nothing(amount: int) -> None:
    assert grains(pot(amount)) == amount


@pytest.mark.parametrize(
    ("milliseconds_", "text"),
    [
        (-5_000, "0 s"),
        (0, "0 s"),
        (1, "1 s"),
        (6_100, "7 s"),
        (59_000, "59 s"),
        (59_001, "1 min 0 s"),
        (61_000, "1 min 1 s"),
        (3_599_000, "59 min 59 s"),
        (3_600_000, "1 h 0 min"),
        (7_500_000, "2 h 5 min"),
    ],
)
def test_countdowns_read_well(milliseconds_: int, text: str) -> None:
    assert seconds_text(milliseconds_) == text


def test_scores_are_exact() -> None:
    assert exact_fraction("0.95", "baseline") == Fraction(19, 20)
    assert exact_fraction(0.5, "baseline") == Fraction(1, 2)
    assert exact_fraction(Fraction(1, 3), "baseline") == Fraction(1, 3)
    assert exact_fraction(Decimal("0.1"), "margin") == Fraction(1, 10)


@pytest.mark.parametrize("value", ["high", "1/0", True, None, float("inf"), float("nan")])
def test_what_is_no_number_is_no_score(value: object) -> None:
    with pytest.raises(BadQuantity, match="the margin is not a finite number"):
        exact_fraction(value, "margin")  # type: ignore[arg-type]
