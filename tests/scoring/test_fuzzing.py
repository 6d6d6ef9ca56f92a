"""Modules composed at random: what export accepts computes the same, trains the same and has one digest; what it
refuses is refused with a reason that tells where."""

from __future__ import annotations

import re

import pytest

from tests.scoring.fuzzing import outcome

SHORT = (3, 11, 26, 42, 58, 67, 71, 90, 102, 115, 131, 144, 163, 239, 298, 450)
LONG = range(2000)
PLACE = re.compile(r"\bfuzzing\.py:\d+|\bin '[\w.]+' \(|'steps\.\d+|\bsteps\.\d+")


def check(seed: int) -> None:
    found = outcome(seed)
    assert not found.faults, f"seed {seed}: {found.faults}"
    assert not found.refusal or PLACE.search(found.refusal), f"seed {seed}: no place: {found.refusal}"


@pytest.mark.parametrize("seed", SHORT)
def test_a_composition_is_right_or_refused_with_its_place(seed: int) -> None:
    check(seed)


@pytest.mark.long
@pytest.mark.parametrize("first", range(0, len(LONG), 50))
def test_thousands_of_compositions_are_right_or_refused_with_their_place(first: int) -> None:
    for seed in LONG[first : first + 50]:
        check(seed)
