"""Packed sequences, written with padded ones while a module is traced.

How much a packed sequence holds depends on all examples of a batch, which no graph knows. `pack_padded_sequence` gives
padded data with their lengths instead; nn.LSTM, nn.GRU and nn.RNN run over all places, backward from each example's
own end, and take each last state from there; `pad_packed_sequence` fills what lies behind. No example sees another,
and the numbers are those of the packed run.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import rnn

from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export.diagnosis import line_of

LONGEST_CELL_STATE = 256
"""Places over which an LSTM's last cell state is written out, two operations each."""
LENGTHS = (
    "the lengths of packed sequences must be a tensor, since a graph sees Python numbers once: give it without "
    ".tolist()"
)
RAGGED = (
    "; pad_packed_sequence without total_length pads to the longest example of the batch, so an example's result may "
    "depend on others: write pad_packed_sequence(..., total_length=x.shape[1])"
)
_LAYERS = (nn.LSTM, nn.GRU, nn.RNN)
_KERNELS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}


@dataclass
class Packing:
    """What was seen of packed sequences.

    Attributes:
        used: whether there were any.
        ragged: whether some were padded to the longest example of the batch.
        drops: whether a layer drops places of a packed sequence, which are others in a padded one.
    """

    used: bool = False
    ragged: bool = False
    drops: bool = False


class PaddedSequence:
    """Stands for a packed sequence: data [batch, time, ...] and lengths [batch]."""

    def __init__(self, x: Tensor, lengths: Tensor) -> None:
        self.x, self.lengths = x, lengths

    def inside(self) -> Tensor:
        """Which places belong to an example, [batch, time]."""
        return torch.arange(self.x.shape[1], device=self.x.device) < self.lengths.unsqueeze(1)

    def __getattr__(self, name: str) -> Any:
        raise _refused(
            "what a packed sequence holds inside depends on all examples of the batch: pad it first, with "
            "pad_packed_sequence(..., total_length=x.shape[1])"
        )

    def __iter__(self) -> Any:
        return self.__getattr__("data")


class _LongCellState:
    """In place of a last cell state that is not written out."""

    def __getattr__(self, name: str) -> Any:
        raise _too_long()

    @classmethod
    def __torch_function__(cls, *given: Any) -> Any:
        raise _too_long()


def _too_long() -> ExportFailed:
    return _refused(
        "the last cell state of an nn.LSTM over packed sequences is exported for "
        f"up to {LONGEST_CELL_STATE} places: use the last output instead"
    )


def _refused(message: str) -> ExportFailed:
    line = line_of(traceback.extract_stack())
    return ExportFailed(message + (f", at {line}" if line else ""))


_IN_THREAD = threading.local()


@contextlib.contextmanager
def padded() -> Iterator[Packing]:
    """While inside, packed sequences of this thread are padded ones. One thread of a process at a time may be inside;
    others see torch's own."""
    seen = Packing()
    before = [(layer, layer.forward) for layer in _LAYERS]
    codes = [(f, f.__code__) for f in (rnn.pack_padded_sequence, rnn.pad_packed_sequence)]
    _OWN.update({f.__name__: _copied(f) for f, _ in codes})
    try:
        _IN_THREAD.seen = seen
        for layer, forward in before:
            layer.forward = _forward(forward)  # type: ignore[method-assign]
        rnn.pack_padded_sequence.__code__ = _pack.__code__
        rnn.pad_packed_sequence.__code__ = _pad.__code__
        yield seen
    finally:
        for function, code in codes:
            function.__code__ = code
        for layer, forward in before:
            layer.forward = forward  # type: ignore[method-assign]
        del _IN_THREAD.seen


_OWN: dict[str, Callable[..., Any]] = {}
"""torch's functions, as they were."""


def _copied(function: Any) -> Callable[..., Any]:
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)


# The code of these two takes the place of torch's, which modules hold under names of their own; it runs among the
# names of torch's module, so it imports what it needs.


def _pack(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> Any:
    import importlib

    return importlib.import_module("pot_lab.scoring.export.packing").pack(input, lengths, batch_first, enforce_sorted)


def _pad(sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None) -> Any:
    import importlib

    return importlib.import_module("pot_lab.scoring.export.packing").pad(
        sequence, batch_first, padding_value, total_length
    )


def pack(x: Any, lengths: Any, batch_first: bool, enforce_sorted: bool) -> Any:
    """`pack_padded_sequence`."""
    if not hasattr(_IN_THREAD, "seen"):
        return _OWN["pack_padded_sequence"](x, lengths, batch_first, enforce_sorted)
    _IN_THREAD.seen.used = True
    if not isinstance(lengths, Tensor):
        raise _refused(LENGTHS)
    data = x if batch_first else x.transpose(0, 1)
    return PaddedSequence(data, lengths.to(torch.int64).to(data.device).clamp(1, data.shape[1]))


def pad(sequence: Any, batch_first: bool, padding_value: float, total_length: int | None) -> Any:
    """`pad_packed_sequence`."""
    if not isinstance(sequence, PaddedSequence):
        return _OWN["pad_packed_sequence"](sequence, batch_first, padding_value, total_length)
    _IN_THREAD.seen.ragged |= total_length is None
    x = sequence.x
    outside = sequence.inside().logical_not()
    filled = x.masked_fill(outside.reshape(-1, x.shape[1], *[1] * (x.dim() - 2)), padding_value)
    if total_length is not None:
        more = [0, 0] * (x.dim() - 2) + [0, max(total_length - x.shape[1], 0)]
        filled = F.pad(filled, more, value=padding_value)[:, :total_length]
    return (filled if batch_first else filled.transpose(0, 1)), sequence.lengths


def _forward(own: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        return _recurrent(self, input, hx) if isinstance(input, PaddedSequence) else own(self, input, hx)

    return forward


def _recurrent(layer: nn.RNNBase, sequence: PaddedSequence, hx: Any) -> tuple[PaddedSequence, Any]:
    """A recurrent layer over padded data: one call for each layer and direction."""
    if layer.proj_size:
        raise _refused("recurrent layers with proj_size have no exact rule: use a Linear behind them")
    lstm = layer.mode == "LSTM"
    given = [] if hx is None else list(hx) if lstm else [hx]
    kernel = getattr(torch._VF, _KERNELS[layer.mode])
    x, each, directions = sequence.x, 4 if layer.bias else 2, 2 if layer.bidirectional else 1
    _IN_THREAD.seen.drops |= layer.dropout > 0 and layer.num_layers > 1 and layer.training
    last: list[list[Any]] = [[], []]
    for number in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            place = number * directions + direction
            weights: list[Any] = layer._flat_weights[place * each : (place + 1) * each]
            zeros = x.new_zeros(1, x.shape[0], layer.hidden_size)
            states = [s[place : place + 1] for s in given] or [zeros, zeros][: 2 if lstm else 1]
            steps = _turned(x, sequence.lengths) if direction else x
            first = tuple(states) if lstm else states[0]
            out = kernel(steps, first, weights, layer.bias, 1, 0.0, layer.training, False, True)[0]
            last[0].append(_last(out, sequence.lengths))
            if lstm:
                last[1].append(_last_cell_state(sequence, steps, out, states, weights))
            outputs.append(_turned(out, sequence.lengths) if direction else out)
        x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
        if layer.dropout and number + 1 < layer.num_layers:
            x = F.dropout(x, layer.dropout, layer.training)
    h = torch.stack(last[0])
    short = lstm and not any(isinstance(c, _LongCellState) for c in last[1])
    state = (h, torch.stack(last[1]) if short else _LongCellState()) if lstm else h
    return PaddedSequence(x, sequence.lengths), state


def _turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Each example from its own end to its beginning; what follows is of no account."""
    places = (lengths.unsqueeze(1) - 1 - torch.arange(x.shape[1], device=x.device)).clamp(min=0)
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def _last(x: Tensor, lengths: Tensor) -> Tensor:
    """The place at each example's end: [batch, features]."""
    return x.gather(1, (lengths - 1).reshape(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1)


def _last_cell_state(
    sequence: PaddedSequence, x: Tensor, out: Tensor, states: list[Tensor], weights: list[Tensor]
) -> Any:
    """The cell state at each example's end: from all outputs, which are the states before each place."""
    if x.shape[1] > LONGEST_CELL_STATE:
        return _LongCellState()
    before = torch.cat([states[0].transpose(0, 1), out[:, :-1]], 1)
    of_input, of_state, *biases = weights
    bias_input, bias_state = biases or (None, None)
    gates = F.linear(x, of_input, bias_input) + F.linear(before, of_state, bias_state)
    i, f, g, _ = gates.chunk(4, -1)
    outside = sequence.inside().logical_not().unsqueeze(-1)
    kept, added = f.sigmoid().masked_fill(outside, 1.0), (i.sigmoid() * g.tanh()).masked_fill(outside, 0.0)
    c = states[1].squeeze(0)
    for time in range(x.shape[1]):
        c = c * kept[:, time] + added[:, time]
    return c
