"""Under `python -O` nothing starts: libraries below may guard their state with `assert`."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("arguments", [("-c", "import pot_lab"), ("-m", "pot_lab.cli.main", "--help")])
@pytest.mark.parametrize("level", ["-O", "-OO"])
def test_python_without_asserts_is_refused_in_one_readable_line(level: str, arguments: tuple[str, ...]) -> None:
    answer = subprocess.run([sys.executable, level, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1] == (
        "ImportError: pot_lab does not run under python -O or PYTHONOPTIMIZE: start Python without them"
    )


def test_python_with_asserts_is_not() -> None:
    assert subprocess.run([sys.executable, "-c", "import pot_lab"], check=False).returncode == 0
