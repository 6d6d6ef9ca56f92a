"""Parameters stay inside their hard bounds, and a network that cannot work is not begun."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from pot_lab.crypto.canonical import encode, sha256
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import (
    _BOUNDS,
    SCORE_FUNCTIONS,
    BadParameter,
    Direction,
    Parameters,
    best_score,
    score_direction,
    score_is_sum,
)
from pot_lab.protocol.state import Genesis, Member
from tests.protocol.world import World

GENESIS = World().genesis


def test_the_defaults_are_inside_their_own_bounds() -> None:
    Parameters().check()
    bounded = {name for name, _, _ in _BOUNDS}
    assert bounded | {"min_stake_grains", "usual_windows_ms", "treasury"} == set(Parameters.__struct_fields__)


@pytest.mark.parametrize(("name", "low", "high"), _BOUNDS, ids=[name for name, _, _ in _BOUNDS])
def test_no_value_leaves_its_bounds(name: str, low: int, high: int) -> None:
    for value in (low - 1, high + 1, -(1 << 62)):
        with pytest.raises(BadParameter, match=name):
            structs.replace(Parameters(), **{name: value}).check()


@pytest.mark.parametrize(
    "change",
    [
        {"winner_bp": 9_000},
        {"min_train_ms": 2_000, "max_train_ms": 1_999},
        {"min_window_ms": 2_000, "max_window_ms": 1_999},
        {"min_challenge_ms": 2_000, "max_window_ms": 1_999, "usual_windows_ms": (1_500,) * 7},
        {"min_stake_grains": (1, 1, 1, -1)},
        {"min_stake_grains": (1, 1, 1)},
        {"min_stake_grains": (1, 1, 1, 10**18 + 1)},
        {"usual_windows_ms": (60_000,) * 6 + (1,)},
        {"treasury": b""},
        {"voting_ms": 20 * 86_400_000, "timelock_ms": 86_400_001},
        {"treasury": b"\x01" * 21},
    ],
    ids=str,
)
def test_values_that_do_not_go_together_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadParameter, match=r"seen: "):
        structs.replace(Parameters(), **change).check()


@pytest.mark.parametrize(
    "change",
    [
        {"members": ()},
        {"members": (GENESIS.members[0],) * 2},
        {"members": tuple(Member(i.to_bytes(20, "big"), bytes(32)) for i in range(256))},
        {"members": (Member(b"\x01" * 19, bytes(32)),)},
        {"members": (Member(b"\x01" * 20, bytes(31)),)},
        {"settlement_contract": b""},
        {"chain_id": 0},
        {"chain_id": 1 << 63},
        {"parameters": structs.replace(Parameters(), update_ms=0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_network_that_cannot_work_is_not_begun(change: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        Ledger(structs.replace(GENESIS, **change))


def test_every_part_of_the_genesis_changes_the_networks_id() -> None:
    ids = {GENESIS.network_id}
    for change in (
        {"name": "other"},
        {"chain_id": 1},
        {"settlement_contract": b"\x08" * 20},
        {"members": GENESIS.members[::-1]},
        {"parameters": structs.replace(GENESIS.parameters, update_ms=2_000)},
    ):
        ids.add(structs.replace(GENESIS, **change).network_id)
    assert len(ids) == 6 and isinstance(GENESIS, Genesis)


@pytest.mark.parametrize(("name", "low", "high"), _BOUNDS, ids=[name for name, _, _ in _BOUNDS])
def test_a_value_at_its_bounds_is_not_refused_for_itself(name: str, low: int, high: int) -> None:
    for value in (low, high):
        try:
            structs.replace(Parameters(), **{name: value}).check()
        except BadParameter as error:
            assert f"parameter {name} is out of bounds" not in error.message


SCORE_PARAMETERS = [
    ("top_k_accuracy", "k", 2, 1_000, 5),
    ("macro_f1", "classes", 2, 4_096, None),
    ("mse", "decimals", 0, 12, 6),
    ("mae", "decimals", 0, 12, 6),
    ("accuracy", "slices", 1, 2, 1),
    ("quantile_loss", "permille", 1, 999, 500),
    ("quantile_loss", "decimals", 0, 12, 6),
    ("ndcg", "k", 1, 1000, 10),
    ("multilabel_micro_f1", "threshold", 1, 999, 500),
    ("multilabel_macro_f1", "labels", 2, 18, None),
]


@pytest.mark.parametrize(("function", "name", "low", "high", "usual"), SCORE_PARAMETERS)
def test_a_score_functions_parameter_has_bounds_and_its_usual_value_is_left_out(
    function: str, name: str, low: int, high: int, usual: int | None
) -> None:
    for value in {low, low + 1, high - 1, high} - {usual}:
        assert score_direction(f"{function}[{name}={value}]", 1) is not None, value
    for value in (low - 1, high + 1, usual):
        assert score_direction(f"{function}[{name}={value}]", 1) is None, value
    assert (score_direction(function, 1) is None) == (usual is None)


_NEEDED = {
    "macro_f1": "classes=3",
    "scaled_mse": "exponent=15,scale=100000",
    "scaled_mae": "exponent=15,scale=100000",
    "multilabel_macro_f1": "labels=3",
}
_BEST = {
    "weighted_accuracy": 1000,
    "macro_f1": 10**6,
    "token_accuracy": 10**6,
    "mean_iou": 10**6,
    "auc": 10**6,
    "ndcg": 10**6,
    "multilabel_micro_f1": 10**6,
    "multilabel_macro_f1": 10**6,
}


@pytest.mark.parametrize("function", [name for name, _ in SCORE_FUNCTIONS])
def test_the_best_score_is_known(function: str) -> None:
    rule = SCORE_FUNCTIONS[function, 1]
    assert best_score(function, 1) == (0 if rule.direction is Direction.LOWER else _BEST.get(function, 1))
    no_sums = {"macro_f1", "auc", "multilabel_micro_f1", "multilabel_macro_f1"}
    assert score_is_sum(function, 1) == (function not in no_sums)


@pytest.mark.parametrize("function", [name for name, _ in SCORE_FUNCTIONS])
def test_a_score_function_is_known_in_its_version_with_its_direction(function: str) -> None:
    needed = _NEEDED.get(function, "")
    name = f"{function}[{needed}]" if needed else function
    lower = {
        "cross_entropy",
        "perplexity",
        "next_token_loss",
        "mse",
        "mae",
        "scaled_mse",
        "scaled_mae",
        "quantile_loss",
        "brier",
        "weighted_cross_entropy",
    }
    assert score_direction(name, 1) is (Direction.LOWER if function in lower else Direction.HIGHER)
    assert score_direction(name, 0) is None and score_direction(name, 2) is None
    other = "[" + ",".join(sorted([*needed.split(","), "slices=2"] if needed else ["slices=2"])) + "]"
    assert score_direction(function + other, 1) is score_direction(name, 1)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Accuracy",
        "accuracy[]",
        "accuracy[slices=2",
        "accuracy[slices=02]",
        "accuracy[slices=2,slices=2]",
        "accuracy[k=3]",
        "macro_f1[slices=2,classes=3]",
        "top_k_accuracy[k=3,slices=2]x",
    ],
)
def test_one_function_has_one_name(name: str) -> None:
    assert score_direction(name, 1) is None


def test_the_hard_bounds_are_those_that_networks_were_founded_with() -> None:
    # Another bound lets some aggregators accept what others refuse: it needs a new version of the rules.
    assert sha256(encode(_BOUNDS)).hex() == "bed9635262779d96e33d6cf29cbe7162d3f1620f340ace962d6eb275c9e323ed"


def test_no_stake_at_all_may_be_asked_and_at_most_10_to_the_18() -> None:
    structs.replace(Parameters(), min_stake_grains=(0, 0, 0, 10**18)).check()


def test_stake_outlives_an_order_with_the_usual_windows() -> None:
    usual = Parameters(voting_ms=1_000, timelock_ms=1_000)
    least_ms = usual.min_train_ms + sum(usual.usual_windows_ms) + usual.settling_ms
    structs.replace(usual, unbonding_ms=least_ms).check()
    with pytest.raises(BadParameter, match=f"unbonding is over .*{least_ms - 1} ms, wanted: at least {least_ms} ms"):
        structs.replace(usual, unbonding_ms=least_ms - 1).check()
