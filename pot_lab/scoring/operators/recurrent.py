"""Recurrent layers, kept whole: LSTM, GRU and plain RNN, stacked and bidirectional.

The products of the inputs are taken for all times at once; only the products of the states go step by step. A step
sees one row for each example, so no grid sees the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pot_lab.scoring import elementwise
from pot_lab.scoring.arithmetic import Arithmetic
from pot_lab.scoring.errors import CostLimit, ShapeMismatch
from pot_lab.scoring.graph.batch_axis import Axis, OperatorCall, Traced
from pot_lab.scoring.operators.registry import Positive, Probability, Tensors, operator

LARGEST_STEPS = 1 << 16
"""Time steps times layers times directions of one call."""

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
Step = Callable[[Tensor, list[Tensor], Callable[[Tensor], Tensor]], list[Tensor]]


class Layer(NamedTuple):
    """Weights [gates x hidden, features], [gates x hidden, hidden] and biases of one layer in one direction."""

    of_input: Tensor
    of_state: Tensor
    bias_input: Tensor | None
    bias_state: Tensor | None


def layers(name: str, arguments: dict[str, Any]) -> list[Layer]:
    """The layers of a call, from the front, forward before backward; shapes checked.

    Raises: ValueError.
    """
    params, each = list(arguments["params"]), 4 if arguments["has_biases"] else 2
    directions = 2 if arguments["bidirectional"] else 1
    count = arguments["num_layers"] * directions
    if len(params) != count * each:
        raise ValueError(f"{len(params)} weights for {count} layers of {each}; projections have no exact rule")
    found = [
        Layer(*params[i : i + 2], *(params[i + 2 : i + 4] if each == 4 else (None, None)))
        for i in range(0, len(params), each)
    ]
    x, hx = arguments["x"], arguments["hx"]
    states = list(hx) if isinstance(hx, list | tuple) else [hx]
    if x.dim() != 3 or len(states) != (2 if name == "lstm" else 1):
        raise ValueError(f"data of {x.dim()} axes and {len(states)} states")
    hidden = found[0].of_state.shape[-1]
    batch = x.shape[0 if arguments["batch_first"] else 1]
    for h in states:
        if tuple(h.shape) != (count, batch, hidden):
            raise ValueError(f"a first state of shape {tuple(h.shape)} instead of {(count, batch, hidden)}")
    features = x.shape[-1]
    for i, layer in enumerate(found):
        rows = GATES[name] * hidden
        wanted = [(rows, features if i < directions else hidden * directions), (rows, hidden), (rows,), (rows,)]
        if any(w is not None and tuple(w.shape) != shape for w, shape in zip(layer, wanted, strict=True)):
            raise ValueError(f"weights of layer {i // directions} do not have {hidden} hidden features")
    return found


def _check(call: dict[str, Any]) -> None:
    x = call["x"]
    directions = 2 if call["bidirectional"] else 1
    steps = x.shape[0 if x.rank == 3 and not call["batch_first"] else min(1, x.rank - 1)]
    if steps * call["num_layers"] * directions > LARGEST_STEPS:
        raise CostLimit("a recurrent layer has too many steps", seen=steps, wanted=f"at most {LARGEST_STEPS} in all")


def _shapes(name: str) -> Callable[[dict[str, Any]], tuple[Tensor, ...]]:
    def shapes(arguments: dict[str, Any]) -> tuple[Tensor, ...]:
        found = layers(name, arguments)
        x, hx = arguments["x"], arguments["hx"]
        hidden, directions = found[0].of_state.shape[-1], 2 if arguments["bidirectional"] else 1
        states = hx if isinstance(hx, list) else [hx]
        return (x.new_empty((*x.shape[:2], hidden * directions)), *(torch.empty_like(h) for h in states))

    return shapes


def _work(call: OperatorCall) -> int:
    params = [p for p in call["params"] if p.rank == 2]
    rows = call["x"].shape[0] * call["x"].shape[1]
    return sum(rows * (2 * p.shape[0] * p.shape[1] + 10 * p.shape[0]) for p in params)


def _scratch(call: OperatorCall) -> int:
    """The products of all times."""
    return int(call["x"].shape[0] * call["x"].shape[1] * call["params"][0].shape[0])


def _run(
    name: str, arithmetic: Arithmetic, arguments: dict[str, Any], states: Sequence[Tensor], step: Step
) -> tuple[Tensor, ...]:
    """Output and last states of all layers. `step` takes the products of an input, the states, and the product of a
    state, and gives the next states, the output first."""
    found = layers(name, arguments)
    x = arguments["x"].transpose(0, 1) if arguments["batch_first"] else arguments["x"]
    directions = 2 if arguments["bidirectional"] else 1
    last: list[list[Tensor]] = []
    for number in range(arguments["num_layers"]):
        outputs = []
        for direction in range(directions):
            place = number * directions + direction
            layer = found[place]
            inputs = arithmetic.linear(x, layer.of_input)
            bias = _input_bias(name, arithmetic, layer)
            if bias is not None:
                inputs.add_(bias)
            now = [s[place] for s in states]
            out = torch.empty((*x.shape[:2], layer.of_state.shape[-1]), dtype=torch.float64, device=x.device)
            times = range(1) if x.is_meta else range(x.shape[0])

            def of_state(h: Tensor, layer: Layer = layer) -> Tensor:
                y = arithmetic.linear(h, layer.of_state)
                return y if name != "gru" or layer.bias_state is None else y.add_(layer.bias_state)

            for time in reversed(times) if direction else times:
                now = step(inputs[time], now, of_state)
                out[time] = now[0]
            outputs.append(out)
            last.append(now)
        x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
    finals = [torch.stack([states[i] for states in last]) for i in range(len(states))]
    return (x.transpose(0, 1) if arguments["batch_first"] else x, *finals)


def _input_bias(name: str, arithmetic: Arithmetic, layer: Layer) -> Tensor | None:
    """GRU multiplies the state's part before it adds, so its two biases stay apart; elsewhere they are added first."""
    if layer.bias_input is None or layer.bias_state is None:
        return None
    second = layer.bias_state
    if name == "gru":
        return layer.bias_input
    return arithmetic.prepared(layer.bias_input, f"bias with {id(second)}", lambda b: b + second)


def _lstm_step(inputs: Tensor, states: list[Tensor], of_state: Callable[[Tensor], Tensor]) -> list[Tensor]:
    h, c = states
    gates = of_state(h).add_(inputs)
    hidden = h.shape[-1]
    gates = elementwise.gates(gates, slice(2 * hidden, 3 * hidden))
    i, f, g, o = gates.chunk(4, -1)
    c = (f * c).add_(i * g)
    return [elementwise.tanh(c).mul_(o), c]


def _gru_step(inputs: Tensor, states: list[Tensor], of_state: Callable[[Tensor], Tensor]) -> list[Tensor]:
    (h,) = states
    hidden = h.shape[-1]
    products = of_state(h)
    r, z = elementwise.sigmoid(inputs[..., : 2 * hidden] + products[..., : 2 * hidden]).chunk(2, -1)
    n = elementwise.tanh((r * products[..., 2 * hidden :]).add_(inputs[..., 2 * hidden :]))
    return [(h - n).mul_(z).add_(n)]


def _rnn_step(activation: Callable[[Tensor], Tensor]) -> Step:
    def step(inputs: Tensor, states: list[Tensor], of_state: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return [activation(of_state(states[0]).add_(inputs))]

    return step


def _recurrent_axis(call: OperatorCall) -> list[Axis]:
    """lstm, gru, rnn: data [batch, time, features] or [time, batch, features], states [layers, batch, features]."""
    x, first = call.traced("x"), call["batch_first"]
    axis = 0 if first else 1
    states = call["hx"] if isinstance(call["hx"], list) else [call["hx"]]
    if x.rank != 3 or x.axis != axis:
        raise call.mixing(f"the batch must be axis {axis} of its data, for batch_first={first}, and is {x.axis}")
    if any(h.axis != 1 for h in states):
        raise call.mixing("the batch must be axis 1 of its first states; make them with zeros of the batch's size")
    if any(p.axis is not None for p in call["params"]):
        raise call.mixing("its weights depend on the examples")
    return [axis, *[1] * len(states)]


def _whitelisted(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return operator(
        f"aten.{name}.input",
        batch=_recurrent_axis,
        returns="tensors",
        work=_work,
        scratch=_scratch,
        mode="train",
        check=_check,
        shapes=_shapes(name),
    )


@_whitelisted("lstm")
def _lstm(
    arithmetic: Arithmetic,
    x: Tensor,
    hx: Tensors,
    params: Tensors,
    has_biases: bool,
    num_layers: Positive,
    dropout: Probability,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """i, f, g, o = (x Wi + (bi + bh)) + h Wh; c' = f c + i g; h' = tanh(c') o."""
    arguments = {
        "x": x,
        "hx": hx,
        "params": params,
        "has_biases": has_biases,
        "num_layers": num_layers,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
    }
    return _run("lstm", arithmetic, arguments, hx, _lstm_step)


def _one_state(name: str, step: Step) -> None:
    def kernel(
        arithmetic: Arithmetic,
        x: Tensor,
        hx: Tensor,
        params: Tensors,
        has_biases: bool,
        num_layers: Positive,
        dropout: Probability,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        arguments = {
            "x": x,
            "hx": hx,
            "params": params,
            "has_biases": has_biases,
            "num_layers": num_layers,
            "bidirectional": bidirectional,
            "batch_first": batch_first,
        }
        return _run(name, arithmetic, arguments, [hx], step)

    _whitelisted(name)(kernel)


_one_state("gru", _gru_step)
_one_state("rnn_tanh", _rnn_step(elementwise.tanh))
_one_state("rnn_relu", _rnn_step(lambda x: x.clamp(min=0)))


# ------------------------------------------------------------------------------------ one step of one layer


def _cell_work(call: OperatorCall) -> int:
    rows = int(call.output.shape[0])
    of_input, of_state = call["w_ih"], call["w_hh"]
    return sum(rows * (2 * p.shape[0] * p.shape[1] + 10 * p.shape[0]) for p in (of_input, of_state))


def _cell_rank(arguments: dict[str, Any]) -> None:
    if arguments["x"].rank != 2:
        raise ShapeMismatch("a cell takes rows of features", seen=arguments["x"].shape, wanted="(batch, features)")


def _cell(
    name: str, arithmetic: Arithmetic, x: Tensor, states: Sequence[Tensor], layer: Layer, step: Step
) -> list[Tensor]:
    inputs = arithmetic.linear(x, layer.of_input)
    bias = _input_bias(name, arithmetic, layer)
    if bias is not None:
        inputs.add_(bias)

    def of_state(h: Tensor) -> Tensor:
        y = arithmetic.linear(h, layer.of_state)
        return y if name != "gru" or layer.bias_state is None else y.add_(layer.bias_state)

    return step(inputs, list(states), of_state)


def _cell_axis(call: OperatorCall) -> Axis | list[Axis]:
    """One step of a recurrent layer: data and states [batch, features]."""
    several = isinstance(call["hx"], list)
    states = call["hx"] if several else [call["hx"]]
    if call.traced("x").axis != 0 or any(h.axis != 0 for h in states):
        raise call.mixing("the batch must be the first axis of its data and of its states")
    if any(isinstance(call[name], Traced) and call[name].axis is not None for name in ("w_ih", "w_hh", "b_ih", "b_hh")):
        raise call.mixing("its weights depend on the examples")
    return [0] * len(states) if several else 0


@operator("aten.lstm_cell.default", batch=_cell_axis, returns="tensors", work=_cell_work, check=_cell_rank)
def _lstm_cell(
    arithmetic: Arithmetic,
    x: Tensor,
    hx: Tensors,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, ...]:
    return tuple(_cell("lstm", arithmetic, x, hx, Layer(w_ih, w_hh, b_ih, b_hh), _lstm_step))


def _cell_of_one_state(name: str, step: Step) -> None:
    def kernel(
        arithmetic: Arithmetic,
        x: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        return _cell(name, arithmetic, x, [hx], Layer(w_ih, w_hh, b_ih, b_hh), step)[0]

    operator(f"aten.{name}_cell.default", batch=_cell_axis, work=_cell_work, check=_cell_rank)(kernel)


_cell_of_one_state("gru", _gru_step)
_cell_of_one_state("rnn_tanh", _rnn_step(elementwise.tanh))
_cell_of_one_state("rnn_relu", _rnn_step(lambda x: x.clamp(min=0)))
