"""Score functions of regression, calibration, segmentation, ranking and labels: by a second implementation, by
well-known libraries, and by their released vectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, jaccard_score, mean_pinball_loss, ndcg_score, r2_score, roc_auc_score
from torch import Tensor, nn

from pot_lab.protocol.parameters import best_score, score_is_sum
from pot_lab.scoring import FUNCTIONS, parse_transcript, score, score_example, score_function
from pot_lab.scoring.errors import BadDataset, DtypeMismatch, ShapeMismatch
from pot_lab.scoring.rankings import order_code
from tests.scoring import golden_functions, numpy_more_scores
from tests.scoring.function_cases import COUNT, cases, numbers, whole

CASES = cases()


class Outputs(nn.Module):
    """Gives its inputs as outputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1.0


def test_every_new_function_has_a_case() -> None:
    named = {name.partition("[")[0].partition("/")[0] for name in CASES}
    older = {"accuracy", "top_k_accuracy", "cross_entropy", "perplexity", "next_token_loss", "macro_f1", "mse", "mae"}
    assert named | older == {name for name, _ in FUNCTIONS}


@pytest.mark.parametrize("name", CASES)
def test_two_implementations_agree(name: str) -> None:
    outputs, targets = CASES[name]
    result = score(Outputs(), outputs, targets, name.partition("/")[0])
    found = numpy_more_scores.scored(name, outputs.double().numpy(), targets.numpy())
    assert found is not None
    assert (result.transcript.values.tolist(), result.total) == found
    assert result.valid and max(found[0]) <= result.function.largest
    sizes = {score(Outputs(), outputs, targets, name, batch_size=size).digest for size in (1, 5, COUNT)}
    assert sizes == {result.digest}
    again = parse_transcript(result.transcript.data, count=COUNT)
    assert (again.total, again.root) == (result.total, result.root)
    one = score_example(Outputs(), outputs, targets, name, index=7)
    assert result.transcript.proof(7).verify(result.root, result.transcript.tree.total, one.leaf(True))
    full, version = result.function.full_name, result.function.version
    assert score_is_sum(full, version) == (result.function.total is None)
    if result.function.higher_is_better:
        assert 0 < result.total <= best_score(full, version) * COUNT


@pytest.mark.parametrize("vector", golden_functions.vectors(), ids=lambda v: v["function"])
def test_released_values_are_computed_again(vector: dict[str, Any]) -> None:
    outputs, targets = golden_functions.opened(vector)
    assert golden_functions.computed(vector["function"], outputs, targets) == vector["expected"]
    found = numpy_more_scores.scored(vector["function"], outputs.double().numpy(), targets.numpy())
    assert found == (vector["expected"]["values"], vector["expected"]["total"])


def test_every_case_has_a_released_vector() -> None:
    assert {v["function"] for v in golden_functions.vectors()} == set(CASES)


def total(name: str, outputs: Tensor, targets: Tensor) -> float:
    result = score(Outputs(), outputs, targets, name)
    return result.total / result.count / 1e6


def test_the_scaled_error_is_one_less_r2() -> None:
    outputs, targets = numbers(), numbers(seed=4) * 5e4
    variance = float(targets.double().var(correction=0))
    digits, _, power = f"{variance:.5e}".partition("e")
    name = f"scaled_mse[exponent={int(power) + 10},scale={digits.replace('.', '')}]"
    assert 1 - total(name, outputs, targets) == pytest.approx(r2_score(targets, outputs), abs=1e-4)


@pytest.mark.parametrize("permille", [100, 500, 900])
def test_the_quantile_loss_is_the_pinball_loss(permille: int) -> None:
    outputs, targets = numbers(), numbers(seed=4)
    name = "quantile_loss" + ("" if permille == 500 else f"[permille={permille}]")
    assert total(name, outputs, targets) == pytest.approx(
        mean_pinball_loss(targets, outputs, alpha=permille / 1000), rel=1e-5
    )


def test_the_brier_score_is_the_squared_distance_of_probabilities() -> None:
    outputs, targets = CASES["brier/1"]
    wanted = ((outputs.double().softmax(1) - nn.functional.one_hot(targets, 5)) ** 2).sum(1).mean()
    assert total("brier", outputs, targets) == pytest.approx(float(wanted), abs=2e-6)


def test_the_area_under_the_curve_is_counted_exactly() -> None:
    outputs, targets = CASES["auc/1"]
    assert total("auc", outputs, targets) == pytest.approx(
        roc_auc_score(targets, outputs[:, 1] - outputs[:, 0]), abs=1e-6
    )
    assert score(Outputs(), targets.unsqueeze(1).float(), targets, "auc").total == COUNT * 10**6
    assert score(Outputs(), torch.zeros(COUNT, 2), targets, "auc").total == COUNT * 10**6 // 2
    assert score(Outputs(), outputs, targets * 0, "auc").total == 0


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=2, max_size=20))
@settings(max_examples=100)
def test_codes_keep_the_order_of_numbers(given_numbers: list[float]) -> None:
    values = torch.tensor(given_numbers, dtype=torch.float64).clamp(-3.4e38, 3.4e38)
    codes = order_code(values)
    assert codes.tolist() == [numpy_more_scores.order_code(float(v)) for v in values]
    rounded = values.float()
    assert torch.equal(codes.unsqueeze(0) < codes.unsqueeze(1), rounded.unsqueeze(0) < rounded.unsqueeze(1))
    assert torch.equal(codes.unsqueeze(0) == codes.unsqueeze(1), rounded.unsqueeze(0) == rounded.unsqueeze(1))
    assert int(codes.min()) >= 0 and int(codes.max()) < 1 << 32


def test_ndcg_is_that_of_a_library() -> None:
    outputs, grades = numbers(9), whole(4, 9)
    grades[:, 2] = 3
    wanted = ndcg_score(2.0 ** grades.numpy() - 1.0, outputs.numpy(), k=5)
    assert total("ndcg[k=5]", outputs, grades) == pytest.approx(wanted, abs=1e-6)
    hidden = grades.clone()
    hidden[:, 5:] = -100
    alone = ndcg_score(2.0 ** grades[:, :5].numpy() - 1.0, outputs[:, :5].numpy(), k=5)
    assert total("ndcg[k=5]", outputs, hidden) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(("average", "name"), [("micro", "multilabel_micro_f1"), ("macro", "multilabel_macro_f1")])
def test_f1_of_labels_is_that_of_a_library(average: str, name: str) -> None:
    outputs, targets = numbers(6), whole(2, 6)
    full = name + ("[labels=6]" if average == "macro" else "")
    assert total(full, outputs, targets) == pytest.approx(f1_score(targets, outputs > 0, average=average), abs=1e-5)
    chances = outputs.sigmoid() > 0.2
    other = name + ("[labels=6,threshold=200]" if average == "macro" else "[threshold=200]")
    assert total(other, outputs, targets) == pytest.approx(f1_score(targets, chances, average=average), abs=1e-5)


def test_mean_iou_is_that_of_a_library_in_each_example() -> None:
    outputs, targets = numbers(3, 4, 5), whole(3, 4, 5)
    each = [
        jaccard_score(t.ravel(), o.argmax(0).ravel(), average="macro") for o, t in zip(outputs, targets, strict=True)
    ]
    assert total("mean_iou", outputs, targets) == pytest.approx(float(np.mean(each)), abs=2e-6)
    right = nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    skipped = targets.masked_fill(targets == 2, -100)
    skipped[:, 0, 0] = targets[:, 0, 0]
    assert total("mean_iou", right, skipped) == 1.0


def test_weights_weigh() -> None:
    outputs, targets = CASES["weighted_accuracy/1"]
    wanted = ((outputs.argmax(1) == targets[:, 0]) * targets[:, 1]).sum()
    assert score(Outputs(), outputs, targets, "weighted_accuracy").total == int(wanted)
    loss = nn.functional.cross_entropy(outputs, targets[:, 0], reduction="none") * targets[:, 1]
    assert total("weighted_cross_entropy", outputs, targets) == pytest.approx(float(loss.mean()), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_an_example_without_a_finite_result_makes_a_score_invalid(name: str) -> None:
    outputs, targets = CASES[name]
    spoiled = outputs.double().clone()
    spoiled[3] = 1e300

    class Overflows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x * 1e300

    result = score(Overflows(), spoiled, targets, name)
    assert not result.valid and result.transcript.values.tolist()[3] == 1


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "error"),
    [
        ("brier", numbers(5), whole(6), BadDataset),
        ("weighted_accuracy", numbers(5), whole(5), ShapeMismatch),
        ("weighted_accuracy", numbers(5), torch.full((COUNT, 2), 1001), BadDataset),
        ("weighted_accuracy", numbers(5), torch.full((COUNT, 2), -1), BadDataset),
        ("weighted_cross_entropy", numbers(1), torch.full((COUNT, 2), 1), BadDataset),
        ("mean_iou", numbers(3), whole(3), ShapeMismatch),
        ("mean_iou", numbers(1, 4), whole(1, 4), ShapeMismatch),
        ("mean_iou", numbers(3, 4), whole(4, 4), BadDataset),
        ("mean_iou", numbers(3, 4), whole(3, 5), ShapeMismatch),
        ("mean_iou", numbers(3, 4), numbers(4), DtypeMismatch),
        ("mean_iou", numbers(3, 4), torch.full((COUNT, 4), -100), BadDataset),
        ("auc", numbers(3), whole(2), ShapeMismatch),
        ("auc", numbers(2), whole(3) + 1, BadDataset),
        ("auc", numbers(1), whole(2).float(), DtypeMismatch),
        ("ndcg", numbers(1), whole(3, 1) + 1, ShapeMismatch),
        ("ndcg", numbers(4), whole(1, 4), BadDataset),
        ("ndcg", numbers(4), torch.full((COUNT, 4), 31), BadDataset),
        ("ndcg", numbers(4), numbers(4), DtypeMismatch),
        ("multilabel_micro_f1", numbers(4), whole(3, 4), BadDataset),
        ("multilabel_micro_f1", numbers(4), whole(2), ShapeMismatch),
        ("multilabel_macro_f1[labels=4]", numbers(4), torch.full((COUNT, 4), -100), BadDataset),
        ("multilabel_macro_f1[labels=5]", numbers(4), whole(2, 4), ShapeMismatch),
        ("multilabel_macro_f1[labels=4]", numbers(4), numbers(4), DtypeMismatch),
    ],
)
def test_data_that_do_not_fit_are_refused(name: str, outputs: Tensor, targets: Tensor, error: type[Exception]) -> None:
    with pytest.raises(error):
        score(Outputs(), outputs, targets, name)


@given(st.lists(st.integers(0, 4**3 - 1), min_size=1, max_size=20), st.data())
@settings(max_examples=60)
def test_totals_of_any_values_are_those_of_the_second_implementation(values: list[int], data: st.DataObject) -> None:
    codes = np.array(values, dtype=np.uint64)
    macro = score_function("multilabel_macro_f1[labels=3]")
    assert macro.total_of(codes) == numpy_more_scores.macro_f1_total(values, 3)
    assert score_function("auc").total_of(codes) == numpy_more_scores.auc_total(values)
    counts = [data.draw(st.integers(0, 1 << 30)) for _ in values]
    micro = score_function("multilabel_micro_f1")
    assert micro.total_of(np.array(counts, dtype=np.uint64)) == numpy_more_scores.micro_f1_total(counts)


def test_a_capped_distance_is_as_far_as_can_be() -> None:
    far = torch.full((3,), 1e300, dtype=torch.float64)
    for name in ("scaled_mse[exponent=0,scale=100000]", "quantile_loss"):
        assert score(Outputs(), far, -far, name).transcript.values.tolist() == [10**10] * 3
    assert math.isfinite(total("scaled_mae[exponent=40,scale=999999]", far, -far))
