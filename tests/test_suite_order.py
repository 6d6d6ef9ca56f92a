"""The order of the suite: slow files among quick ones, and every test once."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tests.suite_order import SLOW_ARE_BEGUN_IN, spread


def item(file: str, name: str, slow: bool = False) -> Any:
    return SimpleNamespace(nodeid=f"{file}::{name}", get_closest_marker=lambda marker: slow and marker == "slow")


@pytest.mark.parametrize(("quick", "slow"), [(100, 10), (3, 7), (0, 4), (5, 0), (0, 0), (1, 1)])
def test_every_test_runs_once_and_files_stay_whole(quick: int, slow: int) -> None:
    given = [item(f"tests/q{n}.py", name) for n in range(quick) for name in "ba"]
    given += [item(f"tests/s{n}.py", name, slow=name == "a") for n in range(slow) for name in "ba"]
    ordered = spread(given)
    names = [each.nodeid for each in ordered]
    assert sorted(names) == sorted(each.nodeid for each in given)
    assert all(names[at].replace("::b", "") == names[at + 1].replace("::a", "") for at in range(0, len(names), 2))


def test_slow_files_are_spread_and_none_is_begun_at_the_end() -> None:
    given = [item(f"tests/a{n}.py", "a", slow=True) for n in range(10)] + [
        item(f"tests/b{n}.py", "a") for n in range(200)
    ]
    places = [at for at, each in enumerate(spread(given)) if "/a" in each.nodeid]
    assert places[0] == 0 and places[-1] < SLOW_ARE_BEGUN_IN * 210
    assert {later - earlier for earlier, later in pairwise(places)} == {17}
