"""Exports that are interrupted, and several at once: torch.export is neither safe for threads nor for Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pot_lab.scoring import ModelArtifact, export_model
from tests.begin import heeding


@pytest.fixture(autouse=True)
def _heeding() -> Iterator[None]:
    with heeding():
        yield


class Interrupted(nn.Module):
    """Has Ctrl-C pressed while it is exported."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.dropout = nn.Dropout()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGINT)
        self.calls += 1
        return self.dropout(self.layer(x))  # type: ignore[no-any-return]


def test_ctrl_c_comes_when_the_export_is_over_and_the_module_is_as_it_was() -> None:
    net = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        export_model(net, torch.randn(2, 4))
    assert net.training and net.dropout.training and net.calls == 0
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert export_model(net.layer, torch.randn(2, 4)).graph


def test_threads_may_export_at_once() -> None:
    made: dict[int, ModelArtifact] = {}
    examples = torch.randn(2, 4)
    nets = {width: nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Dropout()) for width in (2, 3, 5, 7)}

    def export(width: int) -> None:
        made[width] = export_model(nets[width], examples)

    threads = [threading.Thread(target=export, args=(width,)) for width in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [2, 3, 5, 7]
