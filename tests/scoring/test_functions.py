"""Score functions: their values by a second implementation, their meaning by well-known libraries, their names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, top_k_accuracy_score
from torch import nn

import pot_lab
from pot_lab.errors import UnknownScoreFunction
from pot_lab.protocol.parameters import SCORE_FUNCTIONS, SLICES, Direction, score_direction
from pot_lab.scoring import FUNCTIONS, functions, parse_transcript, score, score_example, score_function, unusable_score
from pot_lab.scoring.distances import LARGEST_DISTANCE
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.graph.model_graph import Output
from tests.scoring import numpy_scoring


class Outputs(nn.Module):
    """Gives its inputs as outputs, so that a test chooses them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 1.0


def values(outputs: torch.Tensor, targets: torch.Tensor, function: str) -> list[int]:
    return score(Outputs(), outputs, targets, function).transcript.values.tolist()


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def classes(*shape: int, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [2, 3, 6])
def test_top_k_accuracy_counts_classes_among_the_best(k: int) -> None:
    outputs, targets = random(40, 7).round(decimals=0), classes(40, count=7)
    found = values(outputs, targets, f"top_k_accuracy[k={k}]")
    assert found == numpy_scoring.top_k_accuracy(outputs.double().numpy(), targets.numpy(), k)
    distinct = random(40, 7)
    total = score(Outputs(), distinct, targets, f"top_k_accuracy[k={k}]").total
    assert total == top_k_accuracy_score(targets, distinct, k=k, labels=range(7), normalize=False)
    tied = torch.zeros(3, 7)
    assert values(tied, torch.tensor([0, k - 1, k]), f"top_k_accuracy[k={k}]") == [1, 1, 0]


def test_tokens_are_summed_or_averaged_in_each_example() -> None:
    outputs, targets = random(20, 6, 9), classes(20, 6, count=9)
    targets[3, 1:] = targets[7, 2:4] = functions.NO_TOKEN
    arrays = outputs.double().numpy(), targets.numpy()
    assert values(outputs, targets, "next_token_loss") == numpy_scoring.next_token_loss(*arrays)
    assert values(outputs, targets, "perplexity") == numpy_scoring.perplexity(*arrays)
    loss = nn.functional.cross_entropy(outputs.double().flatten(0, 1), targets.flatten(), reduction="sum").item()
    assert score(Outputs(), outputs, targets, "next_token_loss").total / 1e6 == pytest.approx(loss, rel=1e-6)
    assert values(outputs[:, 0], targets[:, 0], "perplexity") == values(outputs[:, 0], targets[:, 0], "cross_entropy")


def test_macro_f1_is_the_mean_f1_of_the_classes() -> None:
    outputs, targets = random(60, 4), classes(60, count=4)
    outputs[torch.arange(30), targets[:30]] += 5.0
    result = score(Outputs(), outputs, targets, "macro_f1[classes=4]")
    leaves = numpy_scoring.macro_f1(outputs.double().numpy(), targets.numpy(), 4)
    assert result.transcript.values.tolist() == leaves
    assert result.total == numpy_scoring.macro_f1_total(leaves, 4)
    expected = f1_score(targets, outputs.argmax(1), average="macro")
    assert result.total / result.count / 1e6 == pytest.approx(expected, abs=1e-5)
    again = parse_transcript(result.transcript.data, count=60)
    assert again.total == result.total and again.root == result.root
    one = score_example(Outputs(), outputs, targets, "macro_f1[classes=4]", index=11)
    assert result.transcript.proof(11).verify(result.root, result.transcript.tree.total, one.leaf(True))
    better = score(Outputs(), outputs + nn.functional.one_hot(targets, 4) * 9.0, targets, "macro_f1[classes=4]")
    assert better.better_than(result) and better.total == 60 * 10**6
    assert not unusable_score("macro_f1[classes=4]", 60).better_than(result)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_macro_f1_of_any_confusion(pairs: list[tuple[int, int]]) -> None:
    total = score_function("macro_f1[classes=5]").total
    assert total is not None
    codes = np.array([t * 5 + p for t, p in pairs], dtype=np.uint64)
    assert total(codes) == numpy_scoring.macro_f1_total(codes.tolist(), 5)
    targets, found = zip(*pairs, strict=True)
    expected = f1_score(targets, found, average="macro", labels=range(5), zero_division=0.0)
    assert total(codes) / len(pairs) / 1e6 == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("name", "power", "library"), [("mse", 2, nn.MSELoss()), ("mae", 1, nn.L1Loss())])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_distances_are_means_in_the_declared_unit(name: str, power: int, library: nn.Module, shape: tuple) -> None:
    outputs, targets = random(30, *shape), random(30, *shape, seed=1)
    for decimals, suffix in ((6, ""), (3, "[decimals=3]"), (12, "[decimals=12]"), (0, "[decimals=0]")):
        found = values(outputs, targets, name + suffix)
        assert found == numpy_scoring.distance(outputs.double().numpy(), targets.numpy(), decimals, power)
    expected = library(outputs.double(), targets.double()).item()
    assert score(Outputs(), outputs, targets, name).total / 30 / 1e6 == pytest.approx(expected, rel=1e-6)
    far = torch.full((2, *shape), 1e300, dtype=torch.float64)
    assert values(far, -far, name) == [LARGEST_DISTANCE] * 2


def test_whole_targets_have_a_distance() -> None:
    assert values(torch.tensor([[1.5, 2.5]]), torch.tensor([[1, 2]]), "mae[decimals=1]") == [5]


EVERY = ["accuracy", "top_k_accuracy", "cross_entropy", "macro_f1[classes=4]", "mse", "mae"]


@pytest.mark.parametrize("name", EVERY)
def test_a_result_that_is_not_finite_is_no_result(name: str) -> None:
    outputs = random(5, 4)
    outputs[2, 1] = math.inf
    targets = random(5, 4) if name.startswith("m") and "f1" not in name else classes(5, count=4)

    class Spoiled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x / (x != 7.0).float()

    result = score(Spoiled(), outputs.masked_fill(outputs.isinf(), 7.0), targets, name)
    assert not result.valid and result.transcript.values.tolist() == [0, 0, 1, 0, 0] and result.total == 1


@pytest.mark.parametrize(
    ("outputs", "targets", "function", "error"),
    [
        (random(3, 4), classes(3, 4, count=4), "top_k_accuracy", ShapeMismatch),
        (random(3, 4), classes(3, count=4), "macro_f1[classes=5]", ShapeMismatch),
        (random(3, 4), random(3, 5), "mse", ShapeMismatch),
        (random(3, 2, 4), classes(3, count=4), "next_token_loss", ShapeMismatch),
        (random(3, 2, 4), random(3, 2), "next_token_loss", DtypeMismatch),
        (random(3, 2, 4), torch.full((3, 2), 4), "perplexity", BadDataset),
        (random(3, 2, 4), torch.full((3, 2), -1), "perplexity", BadDataset),
        (random(3, 2, 4), torch.full((3, 2), -100), "perplexity", BadDataset),
    ],
)
def test_targets_that_do_not_fit_are_refused(
    outputs: torch.Tensor, targets: torch.Tensor, function: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        score(Outputs(), outputs, targets, function)


@pytest.mark.parametrize(
    "name",
    [
        "top_k_accuracy[k=5]",
        "top_k_accuracy[k=1]",
        "top_k_accuracy[k=03]",
        "top_k_accuracy[k=1001]",
        "top_k_accuracy[]",
        "top_k_accuracy[k=3,k=4]",
        "top_k_accuracy[slices=2,k=3]",
        "top_k_accuracy[slices=1]",
        "macro_f1",
        "macro_f1[slices=2]",
        "mse[unit=3]",
        "mse[decimals=-3]",
        "accuracy[slices=3]",
        "accuracy[slices=2",
        "Accuracy",
    ],
)
def test_a_function_has_one_name(name: str) -> None:
    with pytest.raises(UnknownScoreFunction):
        score_function(f"{name}/1")
    assert score_direction(name, 1) is None


@pytest.mark.parametrize(
    "name",
    [
        "accuracy",
        "accuracy[slices=2]",
        "top_k_accuracy[k=3,slices=2]",
        "macro_f1[classes=10]",
        "mse[decimals=3]",
        "mae",
    ],
)
def test_a_name_is_read_back(name: str) -> None:
    function = score_function(f"{name}/1")
    assert function.identifier == f"{name}/1" and function.full_name == name
    assert score_function(name) == function
    direction = Direction.HIGHER if function.higher_is_better else Direction.LOWER
    assert score_direction(name, 1) == direction and score_direction(name, 2) is None


def test_the_ledger_knows_the_same_functions() -> None:
    def bounds(parameters: object) -> dict[str, tuple[int, int, int | None]]:
        return {name: (b.low, b.high, b.usual) for name, b in dict(parameters).items()}  # type: ignore[call-overload]

    theirs = {key: (int(rule.direction) > 0, bounds(rule.parameters)) for key, rule in SCORE_FUNCTIONS.items()}
    ours = {key: (family.higher_is_better, bounds(family.parameters)) for key, family in FUNCTIONS.items()}
    assert ours == theirs
    assert bounds([SLICES]) == bounds([("slices", functions.SLICES)])
    for (name, version), family in FUNCTIONS.items():
        needed = ",".join(f"{p}={b.low}" for p, b in sorted(family.parameters.items()) if b.usual is None)
        function = score_function(name + (f"[{needed}]" if needed else "") + f"/{version}")
        assert function.higher_is_better == family.higher_is_better and (function.name, function.version) == (
            name,
            version,
        )


def test_the_list_of_functions_says_what_each_takes() -> None:
    listed = pot_lab.score_functions()
    rows = [line for line in (pot_lab.score_functions.__doc__ or "").splitlines() if "/1 |" in line]
    assert [row.split("|")[1].strip() for row in rows] == [f"{f.name}/{f.version}" for f in listed]
    assert [row.split("|")[-2].strip() == "higher" for row in rows] == [f.higher_is_better for f in listed]
    taken = {
        "(), a class number": (Output("float32", (4,)), ()),
        "(tokens,) or (), token numbers; -100 does not count": (Output("float32", (3, 4)), (3,)),
        "the shape of the outputs": (Output("float32", (3, 4)), (3, 4)),
        "(2,), class number and weight from 0 to 1000": (Output("float32", (4,)), (2,)),
        "(places, ...), class numbers; -100 does not count": (Output("float32", (3, 4, 5)), (4, 5)),
        "(), 0 or 1": (Output("float32", (2,)), ()),
        "(items,), grades from 0 to 30; -100 is no item": (Output("float32", (4,)), (4,)),
        "(labels,), 0 or 1; -100 does not count": (Output("float32", (4,)), (4,)),
        "(labels,), 0 or 1": (Output("float32", (4,)), (4,)),
    }
    for info in listed:
        required = [f"{name}={max(4, b.low)}" for name, b in info.parameters.items() if b.usual is None]
        function = score_function(info.name + (f"[{','.join(required)}]" if required else ""))
        assert function.higher_is_better == info.higher_is_better and function.version == info.version
        output, shape = taken[info.targets]
        for dtype in (torch.float32, torch.float64, torch.int64):
            if str(dtype).removeprefix("torch.") in info.targets_dtype:
                function.check(output, dtype, shape)
            else:
                with pytest.raises(DtypeMismatch):
                    function.check(output, dtype, shape)
