"""Packed sequences are exported as padded ones: the same numbers, each example by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from pot_lab.scoring import exact_model, export_model, load_graph, trainable
from pot_lab.scoring.errors import ExportFailed
from pot_lab.scoring.export import packing
from tests.scoring import numpy_scoring
from tests.scoring.operators.test_families import same_bits

TIMES = 9
X = torch.randn(6, TIMES, 5, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([3, TIMES, 5, 7, 1, 2])


class Net(nn.Module):
    """Packs, runs a layer, and a test's `forward` does the rest."""

    def __init__(self, layer: nn.Module, rest: Callable[..., Any], width: int = 7) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head, self.rest = layer, nn.Linear(width, 3), rest
        for p in layer.parameters():
            nn.init.normal_(p, std=0.5)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rest(self.rnn, packed))


def last_state(rnn: Any, packed: Any) -> Any:
    _, h = rnn(packed)
    return (h[0] if isinstance(h, tuple) else h)[-1]


def last_cell_states(rnn: Any, packed: Any) -> Any:
    return rnn(packed)[1][1].transpose(0, 1).flatten(1)


def every_place(rnn: Any, packed: Any) -> Any:
    return pad_packed_sequence(rnn(packed)[0], batch_first=True, padding_value=0.5, total_length=TIMES + 2)[0]


def masked_mean(rnn: Any, packed: Any) -> Any:
    y, lengths = pad_packed_sequence(rnn(packed)[0], batch_first=True)
    inside = (torch.arange(y.shape[1]) < lengths.unsqueeze(1)).unsqueeze(-1)
    return (y * inside).sum(1) / lengths.unsqueeze(1)


def from_given_states(rnn: Any, packed: Any) -> Any:
    _, h = rnn(packed)
    return pad_packed_sequence(rnn(packed, h)[0], total_length=TIMES)[0].transpose(0, 1)


NETS: dict[str, Callable[[], Net]] = {
    "LSTM, last state": lambda: Net(nn.LSTM(5, 7, batch_first=True), last_state),
    "GRU, last state, without bias": lambda: Net(nn.GRU(5, 7, 2, batch_first=True, bias=False), last_state),
    "RNN, last state": lambda: Net(nn.RNN(5, 7, nonlinearity="relu", batch_first=True), last_state),
    "LSTM, cell states of all layers": lambda: Net(nn.LSTM(5, 7, 2, bidirectional=True), last_cell_states, 28),
    "both ways, all places": lambda: Net(nn.LSTM(5, 7, 2, bidirectional=True, dropout=0.4), every_place, 14),
    "GRU, mean of own places": lambda: Net(nn.GRU(5, 7, bidirectional=True), masked_mean, 14),
    "GRU, from given states": lambda: Net(nn.GRU(5, 7, batch_first=True), from_given_states),
}


@pytest.mark.parametrize("name", NETS)
def test_a_packed_sequence_is_scored_as_it_computes(name: str) -> None:
    module = NETS[name]().train()
    artifact = export_model(module, (X, LENGTHS))
    graph = load_graph(artifact.graph)
    exact = exact_model(graph, artifact.weights)
    (found,) = exact.run(X, LENGTHS)
    module.eval()
    with torch.no_grad():
        alone = torch.cat([module(X[i : i + 1], LENGTHS[i : i + 1]) for i in range(6)])
        together, twin = module(X, LENGTHS), trainable(graph, artifact.weights).eval()(X, LENGTHS)
    for wanted in (alone, together, twin):
        assert torch.allclose(found, wanted.double(), rtol=1e-5, atol=1e-6)
    assert same_bits(found, numpy_scoring.run(artifact.graph, artifact.weights, X.numpy(), LENGTHS.numpy()))
    behind = X.clone()
    behind[torch.arange(TIMES) >= LENGTHS.unsqueeze(1)] = 99.0
    assert torch.equal(exact.run(behind, LENGTHS)[0], found)


def test_times_may_come_first() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(5, 7), nn.Linear(7, 3)

        def forward(self, x: Tensor, lengths: Tensor) -> Any:
            packed = pack_padded_sequence(x.transpose(0, 1), lengths, enforce_sorted=False)
            return self.head(pad_packed_sequence(self.rnn(packed)[0], total_length=TIMES)[0]).transpose(0, 1)

    assert export_model(First(), (X, LENGTHS)).graph


def unmasked_mean(rnn: Any, packed: Any) -> Any:
    return pad_packed_sequence(rnn(packed)[0], batch_first=True)[0].mean(1)


def inside_of_it(rnn: Any, packed: Any) -> Any:
    y = rnn(packed)[0]
    return pad_packed_sequence(PackedSequence(y.data.tanh(), y.batch_sizes), batch_first=True)[0]


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        (unmasked_mean, r"for an example alone.*write pad_packed_sequence\(..., total_length=x.shape\[1\]\)"),
        (inside_of_it, r"pad it first.*, at test_packing.py:\d+ in inside_of_it"),
    ],
)
def test_what_depends_on_the_longest_example_is_refused(rest: Callable[..., Any], reason: str) -> None:
    with pytest.raises(ExportFailed, match=reason):
        export_model(Net(nn.GRU(5, 7), rest), (X, LENGTHS))


@pytest.mark.parametrize("listed", [lambda n: n.tolist(), lambda n: [3, 9, 5, 7, 1, 2][: len(n)]])
def test_lengths_as_python_numbers_are_refused_with_their_line(listed: Callable[[Tensor], Any]) -> None:
    class Listed(Net):
        def forward(self, x: Tensor, lengths: Tensor) -> Any:
            packed = pack_padded_sequence(x, listed(lengths), batch_first=True, enforce_sorted=False)
            return self.head(last_state(self.rnn, packed))

    with pytest.raises(ExportFailed, match=r"lengths.*tensor.*\.tolist\(\).*, at test_packing.py:\d+ in forward"):
        export_model(Listed(nn.GRU(5, 7), last_state), (X, LENGTHS))


def test_a_long_cell_state_is_refused_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LONGEST_CELL_STATE", TIMES - 1)
    assert export_model(Net(nn.LSTM(5, 7), last_state), (X, LENGTHS)).graph
    with pytest.raises(ExportFailed, match=rf"up to {TIMES - 1} places.*, at test_packing.py:\d+ in last_cell_states"):
        export_model(Net(nn.LSTM(5, 7), last_cell_states), (X, LENGTHS))


def test_other_threads_pack_as_torch_does_meanwhile() -> None:
    found: list[Any] = []

    def pack() -> None:
        packed = pack_padded_sequence(X, LENGTHS, batch_first=True, enforce_sorted=False)
        found.append((packed, pad_packed_sequence(nn.GRU(5, 7)(packed)[0], batch_first=True)))

    code = pack_padded_sequence.__code__
    with packing.padded() as seen:
        thread = threading.Thread(target=pack)
        thread.start()
        thread.join()
        assert isinstance(pack_padded_sequence(X, LENGTHS), packing.PaddedSequence)
    assert isinstance(found[0][0], PackedSequence) and found[0][1][0].shape == (6, TIMES, 7)
    assert seen.used and not seen.ragged
    assert pack_padded_sequence.__code__ is code
    assert isinstance(pack_padded_sequence(X, LENGTHS, enforce_sorted=False, batch_first=True), PackedSequence)
