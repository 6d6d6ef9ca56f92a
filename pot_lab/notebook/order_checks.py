"""What must be true before money moves: providers can train the model, and the score tells good models from bad ones.

A model may pass every check of its form and still be one that nobody can train. A score may be defined for all data and
still say nothing, as the best five of three classes. Both would cost the client the fee, and providers their time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pot_lab.cards.scores import DISTANCES, LABELS, SCALED, WEIGHTED, base_name, decimals_of
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
_TRIED_EXAMPLES, _LOOKED_AT = 8, 64
_NO_TOKEN = -100
_OF_LOGITS = ("cross_entropy", "perplexity", "next_token_loss", "brier", "weighted_cross_entropy")
_ONLY_SHAPES = tuple(
    f"aten.{name}"
    for name in (
        "view.default", "reshape.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "flatten.using_ints",
        "transpose.int", "permute.default", "clone.default", "contiguous.default", "to.dtype", "slice.Tensor",
        "unflatten.int", "expand.default", "select.int",
    )
)  # fmt: skip
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
    _refuse_probabilities(graph, name)
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


def _refuse_probabilities(graph: ModelGraph, name: str) -> None:
    """Refuse a model that ends in softmax or sigmoid where a loss, or a threshold, takes what stands before it.

    Raises: BadArgument.
    """
    number = graph.results[0].index - len(graph.state) - len(graph.inputs)
    while number >= 0 and graph.nodes[number].op in _ONLY_SHAPES:
        number = graph.nodes[number].args[0].index - len(graph.state) - len(graph.inputs)
    last = graph.nodes[number].op if number >= 0 else ""
    if (last == "aten.softmax.int" and name in _OF_LOGITS) or (last == "aten.sigmoid.default" and name in LABELS):
        kind = last.split(".")[1]
        raise BadArgument(
            f"the model ends in {kind}, and {name} and the training apply it once more: a loss could not get near 0, "
            "and every label would count as given",
            seen=f"{kind} as the last operation",
            wanted=f"the model without its last {kind}",
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
    if name in ("perplexity", "next_token_loss"):
        _refuse_copying(test)
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


def _refuse_copying(test: Dataset) -> None:
    """Refuse tokens that are their own targets: to repeat its input would make a model perfect.

    Raises: BadArgument.
    """
    import torch

    inputs = test.inputs[0] if isinstance(test.inputs, tuple) else test.inputs
    if inputs.dtype == test.targets.dtype and inputs.shape == test.targets.shape and torch.equal(inputs, test.targets):
        raise BadArgument(
            "the targets are the inputs themselves, so a model that repeats what it is given is perfect",
            seen="each token is its own target",
            wanted="the next tokens: inputs tokens[:, :-1] and targets tokens[:, 1:]",
        )


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
    _check_finite_outputs(graph, weights, train)
    _refuse_seeing(graph, weights, train)
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


def _check_finite_outputs(graph: ModelGraph, weights: bytes, train: Dataset) -> None:
    """Refuse first weights whose outputs are no numbers, which no learning rate mends.

    Raises: BadArgument, naming the example.
    """
    import torch

    from pot_lab.scoring import trainable
    from pot_lab.scoring.dataset import each_input, some_rows

    twin = trainable(graph, weights).eval()
    with torch.no_grad():
        outputs = twin(*each_input(some_rows(train.inputs, slice(_LOOKED_AT))))
    finite = torch.isfinite(outputs).reshape(len(outputs), -1).all(1)
    if bool(finite.all()):
        return
    bad = [name for name, t in twin.named_parameters() if not bool(torch.isfinite(t).all())]
    raise BadArgument(
        "the model's outputs are not finite before any training, so nobody could train it",
        seen=f"train example {int((~finite).nonzero()[0])}"
        + (f"; {bad[0]!r} holds numbers that are not finite" if bad else f"; {int((~finite).sum())} of {len(finite)}"),
        wanted="finite first weights"
        if bad
        else "a forward that is finite for all data: bound what goes into log, "
        "division, sqrt and exp, such as x.clamp(min=1e-6).log()",
    )


def _refuse_seeing(graph: ModelGraph, weights: bytes, train: Dataset) -> None:
    """Refuse a model of the next token that sees it, as a bidirectional layer or attention without a causal mask does.

    Raises: BadArgument.
    """
    import torch

    from pot_lab.scoring import trainable

    x, targets = train.inputs, train.targets
    if isinstance(x, tuple) or x.dtype != torch.int64 or x.shape != targets.shape or x.dim() != 2 or x.shape[1] < 3:
        return
    x, targets = x[:_LOOKED_AT], targets[:_LOOKED_AT]
    if not torch.equal(x[:, 1:], targets[:, :-1]) or graph.outputs[0].shape[:1] != x.shape[1:]:
        return
    changed = x.clone()
    changed[:, -1] = x[:, 0]
    twin = trainable(graph, weights).eval()
    with torch.no_grad():
        apart = (twin(x) - twin(changed))[:, :-2].abs()
    if bool((apart > 1e-4 * twin(x).detach().abs().max()).any()):
        raise BadArgument(
            "the model sees the token that it is to name: targets are the next inputs, and its outputs depend on later "
            "inputs than their own place",
            seen="another last token changes the outputs of places before it",
            wanted="a causal mask, or layers of one direction",
        )
