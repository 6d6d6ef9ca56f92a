"""A small sample of every target's mutants, in the long tests; `make mutation` runs the committed samples."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.mutation.run import ROOT
from tests.mutation.targets import TARGETS

FLOOR_PERCENT = "70"
"""Of 20 mutants; the floor of the whole is higher (docs/testing.md, "Mutation testing")."""


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", TARGETS)
def test_most_mutants_are_noticed(name: str) -> None:
    command = [sys.executable, "-m", "tests.mutation.run", name, "--sample", "20", "--floor", FLOOR_PERCENT]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
