"""The examples in docstrings of the public face run as they are written."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch

MODULES = [
    "pot_lab.scoring.dataset",
    "pot_lab.scoring.evaluate",
    "pot_lab.scoring.export.writer",
    "pot_lab.scoring.functions",
    "pot_lab.training.settings",
    "pot_lab.training.trainer",
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 and found.failed == 0
