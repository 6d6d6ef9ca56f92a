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
        ("250ms", 250),
        ("2d", 172_800_000),
    ],
)
def test_durations(text: object, wanted: int) -> None:
    assert milliseconds(text) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "soon", "10 parsecs", "-5s", 0, -1, True, None, "5s and more", float("nan"), "1e400d"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(BadQuantity):
        milliseconds(text)  # type: ignore[arg-type]


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


def test_countdowns_read_well() -> None:
    assert [seconds_text(ms) for ms in (0, 6_100, 61_000, 3_600_000 * 2 + 300_000)] == [
        "0 s",
        "7 s",
        "1 min 1 s",
        "2 h 5 min",
    ]


def test_scores_are_exact() -> None:
    assert exact_fraction("0.95", "baseline") == Fraction(19, 20)
    assert exact_fraction(0.5, "baseline") == Fraction(1, 2)
    assert exact_fraction(Fraction(1, 3), "baseline") == Fraction(1, 3)
    assert exact_fraction(Decimal("0.1"), "margin") == Fraction(1, 10)


@pytest.mark.parametrize("value", ["high", "1/0", True, None, float("inf"), float("nan")])
def test_what_is_no_number_is_no_score(value: object) -> None:
    with pytest.raises(BadQuantity, match="the margin is not a finite number"):
        exact_fraction(value, "margin")  # type: ignore[arg-type]
