"""The mutation runner itself: what it changes, that the change is real, and that it notices a missing test."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation import run, targets
from tests.mutation.mutants import mutants, mutated
from tests.mutation.targets import TARGETS, files_of

SOURCE = '''"""A docstring with 1 < 2."""
def fee(a: int, b: int = 3) -> int:
    """Another one."""
    if a < b and not a:
        raise ValueError(f"{a} < {b}", 7)
    total.append(a)
    return min(a, b)
'''


REFUSAL = "raise ValueError(f'{a} < {b}', 7)"


def test_every_kind_of_change_is_made_once() -> None:
    assert [mutant.what for mutant in mutants(SOURCE)] == [
        "3  ->  4",
        "3  ->  2",
        f"if a < b and (not a): {REFUSAL}  ->  if not (a < b and (not a)): {REFUSAL}",
        "a < b and (not a)  ->  a < b or not a",
        "a < b  ->  a <= b",
        "not a  ->  a",
        f"{REFUSAL}  ->  pass",
        "total.append(a)  ->  pass",
        "min(a, b)  ->  max(a, b)",
        "min(a, b)  ->  min(b, a)",
    ]


def test_values_of_neighbouring_fields_are_swapped() -> None:
    source = "view = StakeView(bonded=1 + a, unbonding=b)\nx, y = a, b\n"
    swapped = [mutated(source, mutant) for mutant in mutants(source)]
    assert "view = StakeView(bonded=b, unbonding=1 + a)\nx, y = (a, b)" in swapped
    assert "view = StakeView(bonded=1 + a, unbonding=b)\nx, y = (b, a)" in swapped


@pytest.mark.parametrize("name", TARGETS)
def test_every_mutant_of_the_first_file_compiles_and_differs(name: str) -> None:
    file = files_of(TARGETS[name], run.ROOT)[0]
    source = (run.ROOT / file).read_text()
    changed = [mutated(source, mutant) for mutant in mutants(source)[:40]]
    for text in changed:
        compile(text, str(file), "exec")
    assert ast.unparse(ast.parse(source)) not in changed


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_files_and_tests(name: str) -> None:
    files = files_of(TARGETS[name], run.ROOT)
    assert files and all(targets.tests_of(TARGETS[name], file, run.ROOT) for file in files)


def test_the_tests_named_like_the_file_come_first() -> None:
    tests = targets.tests_of(TARGETS["protocol"], Path("pot_lab/protocol/rewards.py"), run.ROOT)
    assert tests[0] == "tests/protocol/test_rewards.py" and len(tests) > 10


def test_the_same_seed_draws_the_same_mutants() -> None:
    target = TARGETS["crypto"]
    one, two, other = (run.draw(target, run.ROOT, only=None, sample=9, seed=seed) for seed in (1, 1, 2))
    assert len(one) == 9 and one == two != other


PLANTED = """
import sys
from pathlib import Path
from tests.mutation import run
from tests.mutation.targets import TARGETS, Target
run.ROOT = Path(sys.argv[1])
TARGETS.clear()
TARGETS["small"] = Target(files=("pot_lab/*.py",), tests=("tests/test_*.py",), sample=9)
sys.exit(run.main(["small", "--floor", sys.argv[2]]))
"""


@pytest.mark.parametrize(
    ("bound", "floor", "status"),
    [
        ("[1, 3]", "100", 1),
        *(pytest.param(*each, marks=pytest.mark.long) for each in (("[1, 2, 3]", "100", 0), ("[1, 3]", "30", 0))),
    ],
)
def test_a_missing_boundary_test_is_a_survivor(tmp_path: Path, bound: str, floor: str, status: int) -> None:
    for folder in ("pot_lab", "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    (tmp_path / "pot_lab" / "small.py").write_text("def small(a):\n    return a < 2\n")
    (tmp_path / "tests" / "test_small.py").write_text(
        f"from pot_lab.small import small\ndef test_small(): assert [small(a) for a in {bound}] == "
        f"[a < 2 for a in {bound}]\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", PLANTED, str(tmp_path), floor], capture_output=True, text=True, cwd=run.ROOT
    )
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ("survived" in ran.stdout) == (bound == "[1, 3]")
    assert "small: " in ran.stdout


def test_tests_that_fail_anyway_say_nothing(tmp_path: Path) -> None:
    for folder in ("pot_lab", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "pot_lab" / "small.py").write_text("LIMIT = 2\n")
    (tmp_path / "tests" / "test_small.py").write_text("def test_small(): assert False\n")
    ran = subprocess.run(
        [sys.executable, "-c", PLANTED, str(tmp_path), "0"], capture_output=True, text=True, cwd=run.ROOT
    )
    assert ran.returncode == 1 and "without any mutation" in ran.stdout
