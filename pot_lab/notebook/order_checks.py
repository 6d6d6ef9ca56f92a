"""What must be true before money moves: providers can train the model, and the score tells good models from bad ones.

A model may pass every check of its form and still be one that nobody can train. A score may be defined for all data and
still say nothing, as the best five of three classes. Both would cost the client the fee, and providers their time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pot_lab.cards.scores import DISTANCES, SCALED, WEIGHTED, base_name, decimals_of
from pot_lab.errors import PotLabError
from pot_lab.notebook.constants import best_constant
from pot_lab.notebook.errors import BadArgument
from pot_lab.notebook.predictors import check_order_matters

if TYPE_CHECKING:
    from torch import Tensor

    from pot_lab.scoring import Dataset, ModelGraph, ScoreFunction

_NAMED_CLASSES = ("accuracy", "top_k_accuracy", "cross_entropy", "macro_f1", "next_token_loss", "perplexity")
_OF_ONE_CLASS = (*_NAMED_CLASSES, "brier", "token_accuracy", *WEIGHTED)
"""Functions whose outputs are rows of class scores."""
_TRIED_EXAMPLES = 8
_NO_TOKEN = -100
_LARGEST_UNITS = 10**10
_FEWEST_UNITS = 100
"""Units of 10^-decimals that an example's distance should have, so that a model ten times better shows."""
_MOST_DECIMALS = 12


def check_form_of_outputs(graph: ModelGraph, function: ScoreFunction) -> None:
    """Refuse several outputs, a classifier of one class, and more best places than there are classes.

    Args:
        graph: the model.
        function: the score function.
    Raises: BadArgument, with what to use instead.
    """
    if len(graph.outputs) != 1:
        raise BadArgument(
            "the model returns several tensors, and a score needs one",
            seen=", ".join(str(("examples", *o.shape)) for o in graph.outputs),
            wanted=" or ".join(f"output={i}" for i in range(min(len(graph.outputs), 8))),
        )
    name, shape = base_name(function.full_name), graph.outputs[0].shape
    if name not in _OF_ONE_CLASS:
        return
    words = shape[-1] if shape else 1
    if words == 1:
        raise BadArgument(
            f"{name} of a model of one class says nothing: that class is always the answer",
            seen=f"outputs of shape {('examples', *shape)}",
            wanted="two outputs for two classes, such as nn.Linear(..., 2), and class numbers 0 and 1",
        )
    if name == "top_k_accuracy" and _answers(function) >= words:
        raise BadArgument(
            "every model is right about every example where k is not below the number of classes",
            seen=f"k={_answers(function)}, {words} classes",
            wanted=f"top_k_accuracy[k={words - 1}], or accuracy" if words > 2 else "accuracy",
        )


def _answers(function: ScoreFunction) -> int:
    """Classes that an example's answer names."""
    return dict(function.parameters).get("k", 5) if base_name(function.full_name) == "top_k_accuracy" else 1


def check_score_tells(graph: ModelGraph, function: ScoreFunction, test: Dataset) -> None:
    """Refuse a score that one constant answer makes best, whose bounds hide what a model is worth, or that the right
    answers do not improve.

    Args:
        graph: the model.
        function: the score function.
        test: the test data, which fit both.
    Raises: BadArgument, with what to use instead.
    """
    name, k = base_name(function.full_name), _answers(function)
    if name in DISTANCES:
        _check_units(function, test.targets)
    if name not in _NAMED_CLASSES:
        found = check_order_matters(function, graph.outputs[0], test.targets)
        constant = best_constant(function.identifier, test.targets[: found.count])
        if constant is not None and (found.right - constant) * (1 if function.higher_is_better else -1) <= 0:
            raise BadArgument(
                f"{function.identifier} of these test data is best for a model that always gives one answer",
                seen=f"a total of {found.right} for the right answers and of {constant} for one answer",
                wanted="test targets that differ between examples, or another score function",
            )
        return
    named = test.targets[test.targets != _NO_TOKEN].unique()  # type: ignore[no-untyped-call]
    if len(named) <= k and name != "macro_f1":
        raise BadArgument(
            f"{name} of these test data is best for a model that always gives one answer",
            seen=f"{len(named)} different class numbers in the test data: {', '.join(str(int(n)) for n in named[:8])}",
            wanted=f"at least {k + 1}",
        )
    check_order_matters(function, graph.outputs[0], test.targets)


def _check_units(function: ScoreFunction, targets: Tensor) -> None:
    """Distances are counted in units, from 1 to 10^10: the best constant answer shows of which size they are."""
    import torch

    name, decimals = base_name(function.full_name), decimals_of(function.full_name)
    rows = targets.reshape(len(targets), -1).to(torch.float64)
    squared = name in ("mse", "scaled_mse")
    apart = rows - (rows.mean(0) if squared else rows.median(0).values)
    each = (apart * apart if squared else apart.abs()).mean(1)
    largest, mean = float(each.max()), float(each.mean())
    if largest == 0.0:
        raise BadArgument(
            f"{name} of these test data is 0 for a model that always gives one answer",
            seen="test targets that are all the same",
            wanted="targets that differ",
        )
    unit = 1e-6 * _divisor(function) if name in SCALED else 10.0**-decimals
    if largest < _LARGEST_UNITS * unit / 10 and mean >= _FEWEST_UNITS * unit:
        return
    shown = function.full_name if name in SCALED else f"{name}[decimals={decimals}]"
    what = f"{shown} counts up to {_LARGEST_UNITS * unit:g} for an example, in steps of {unit:g}"
    raise BadArgument(
        f"{what}, and the test targets are not of that size, so good and bad models would score the same",
        seen=f"a constant answer is {mean:.3g} off on average, {largest:.3g} at most",
        wanted=_fitting("mse" if squared else "mae", largest, mean) or "targets divided by their standard deviation",
    )


def _divisor(function: ScoreFunction) -> float:
    from pot_lab.scoring.distances import scale_of

    given = dict(function.parameters)
    return float(scale_of(given["exponent"], given["scale"]))


def _fitting(name: str, largest: float, mean: float) -> str:
    """A distance whose units fit, "" if there is none."""
    for other, at_most, usual in ((name, largest, mean), ("mae", math.sqrt(largest), math.sqrt(mean))):
        decimals = math.floor(math.log10(_LARGEST_UNITS / at_most / 100))
        decimals = min(decimals, _MOST_DECIMALS)
        if decimals >= 0 and usual * 10.0**decimals >= _FEWEST_UNITS:
            return f"{other}[decimals={decimals}]" if decimals != 6 else other
        if name == "mae":
            break
    return ""


def check_trainable(graph: ModelGraph, weights: bytes, train: Dataset, function: ScoreFunction) -> None:
    """Take one real step of the default trainer, on a few examples and on the CPU.

    Raises: BadArgument with the reason, or the trainer's own error.
    """
    from pot_lab.scoring.dataset import some_rows
    from pot_lab.training import Trainer, TrainerSettings

    if not graph.parameters_count:
        raise BadArgument(
            "the model has no parameter that training may change, so no provider could improve it",
            seen="0 parameters with requires_grad=True",
            wanted="layers as attributes, or in nn.ModuleList, nn.ModuleDict and nn.ParameterList",
        )
    few = slice(_TRIED_EXAMPLES)
    settings = TrainerSettings(batch_size=_TRIED_EXAMPLES, validation_fraction=0.25)
    try:
        trainer = Trainer(
            graph,
            weights,
            some_rows(train.inputs, few),
            train.targets[few],
            settings=settings,
            function=function,
            device="cpu",
        )
        trainer.train_until(steps=1)
    except PotLabError as error:
        error.message = f"providers could not train this model: {error.message}"
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadArgument("providers could not train this model", seen=reason) from error
