"""Losses of training: rows of scores taken in chunks give what they give at once."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pot_lab.scoring import score_function
from pot_lab.scoring.target_checks import NO_TOKEN
from pot_lab.training import losses
from pot_lab.training.losses import chunks, row_losses, summed_loss, weight_of

PERPLEXITY = score_function("perplexity")


def some(rows: int = 30, words: int = 17) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    targets = torch.randint(words, (rows // 10, 10), generator=random)
    targets[0, 3:] = NO_TOKEN
    return torch.randn(rows // 10, 10, words, generator=random) * 5, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("elements", [17, 50, 200])
def test_chunks_give_the_same_loss_and_gradient(
    smoothing: float, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, targets = some()
    whole, parts = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    expected = summed_loss(PERPLEXITY, whole, targets, smoothing) / 7
    expected.backward()
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", elements)
    found = summed_loss(PERPLEXITY, parts, targets, smoothing) / 7
    assert type(found.grad_fn.next_functions[0][0]).__name__ == "_ChunkedCrossEntropyBackward"
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(parts.grad, whole.grad)
    assert not parts.grad[0, 3:].any()


def test_scores_of_half_length_keep_their_type_and_are_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = some()
    half = outputs.bfloat16().requires_grad_()
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 17)
    loss = summed_loss(PERPLEXITY, half, targets, 0.0)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, summed_loss(PERPLEXITY, half.detach().float(), targets, 0.0))


def test_losses_of_rows_are_those_of_torch_and_nothing_where_no_token_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = some()
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 40)
    found = row_losses(outputs, targets)
    assert found.shape == targets.shape and not found[0, 3:].any()
    torch.testing.assert_close(found[1:], F.cross_entropy(outputs[1:].mT, targets[1:], reduction="none"))


def test_chunks_cover_all_rows_once() -> None:
    rows = torch.zeros(7, 1 << 21)
    assert [(part.start, part.stop) for part in chunks(rows)] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert chunks(torch.zeros(2, 1 << 23)) == [slice(0, 1), slice(1, 2)]
    assert chunks(torch.zeros(0, 4)) == []


@pytest.mark.parametrize("name", ["mse", "mae"])
def test_distances_are_summed_over_numbers(name: str) -> None:
    outputs, targets = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    function = score_function(name)
    mean = summed_loss(function, outputs, targets, 0.0) / weight_of(function, targets)
    torch.testing.assert_close(mean, F.mse_loss(outputs, targets) if name == "mse" else F.l1_loss(outputs, targets))


def test_only_tokens_that_count_are_counted() -> None:
    _, targets = some()
    assert weight_of(PERPLEXITY, targets) == 23
    assert weight_of(PERPLEXITY, torch.full((2, 2), NO_TOKEN)) == 1  # a mean of nothing is 0, not NaN
