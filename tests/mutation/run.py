"""Mutation testing: change the code on purpose, one place at a time, and see whether a test fails.

    python -m tests.mutation.run protocol --sample 60 --seed 1
    python -m tests.mutation.run protocol --file rewards.py       # every mutant of one file
    python -m tests.mutation.run                                  # every target with its committed sample and seed

It works in a copy of the tree. Tests run in a process forked for each mutant from one that has imported the libraries
already, and stop at the first failure. A mutant that hangs is killed and counts as noticed. Exit status 1 when a target
is below the floor, or when its tests fail without any mutation.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants, mutated
from tests.mutation.targets import TARGETS, Target, files_of, tests_of

ROOT = Path(__file__).resolve().parents[2]
FLOOR_PERCENT = 85.0
_PRELOAD = ("pytest", "hypothesis", "msgspec", "cryptography", "coincurve", "Crypto.Hash.keccak")
_MEMORY_BYTES = 8 << 30
_LEAST_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the tests said to one mutant: `killed`, `timeout` or `survived`."""

    file: Path
    mutant: Mutant
    verdict: str


class BrokenBaseline(Exception):
    """The tests fail without any mutation, so they cannot tell anything."""


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A copy of the package, its tests and its documents, to be changed at will."""
    with tempfile.TemporaryDirectory(prefix="pot-lab-mutation-") as folder:
        root = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", "labextension", "node_modules", "*.so")
        for name in ("pot_lab", "tests", "docs", "notebooks"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=ignored)
        for path in ROOT.iterdir():
            if path.is_file() and path.suffix in (".toml", ".txt", ".md", ".py"):
                shutil.copy2(path, root)
        yield root


def passes(root: Path, tests: list[str], timeout_s: float, *, keep_bytecode: bool = False) -> bool | None:
    """Run tests in a forked process; None when they did not end in time."""
    child = os.fork()
    if not child:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(root / "pytest.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
        os._exit(_run_pytest(root, tests, keep_bytecode))
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _run_pytest(root: Path, tests: list[str], keep_bytecode: bool) -> int:
    import hypothesis
    import pytest

    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = not keep_bytecode
    for name in [name for name in sys.modules if name.split(".")[0] in ("pot_lab", "tests")]:
        del sys.modules[name]
    try:
        # No shrinking: that a test fails is enough. The same examples for every mutant.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", phases=phases, max_examples=50, derandomize=True, database=None, deadline=None
        )
        hypothesis.settings.load_profile("mutation")
        return int(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]))
    except BaseException:
        return 99


def draw(target: Target, root: Path, *, only: str | None, sample: int | None, seed: int) -> list[tuple[Path, Mutant]]:
    """The mutants of a target's files, or a sample of them that a seed decides; by file and line."""
    every = [
        (file, mutant)
        for file in files_of(target, root)
        if only is None or only in str(file)
        for mutant in mutants((root / file).read_text(), target.functions)
    ]
    if sample is None or sample >= len(every):
        return every
    chosen = random.Random(seed).sample(range(len(every)), sample)
    return [every[index] for index in sorted(chosen)]


def run_target(name: str, *, only: str | None, sample: int | None, seed: int) -> list[Outcome]:
    """Run a target's tests against its mutants, printing survivors as they are found.

    Raises:
        BrokenBaseline: the tests fail already without a mutation.
    """
    target = TARGETS[name]
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = "1"  # a process with threads must not be forked
    for module in (*_PRELOAD, *target.preload):
        importlib.import_module(module)
    outcomes = []
    with copied_tree() as root:
        chosen = draw(target, root, only=only, sample=sample, seed=seed)
        print(f"{name}: {len(chosen)} mutants, seed {seed}", flush=True)
        timeouts_s: dict[tuple[str, ...], float] = {}
        for file, mutant in chosen:
            tests = tests_of(target, file, root)
            kind = tuple(sorted(tests))
            if kind not in timeouts_s:
                started_s = time.monotonic()
                if not passes(root, tests, 1_800, keep_bytecode=True):
                    raise BrokenBaseline((root / "pytest.log").read_text()[-4_000:])
                timeouts_s[kind] = max(_LEAST_TIMEOUT_S, 4 * (time.monotonic() - started_s))
            original = (root / file).read_text()
            for compiled in (root / file).parent.glob(f"__pycache__/{file.stem}.*"):
                compiled.unlink()
            (root / file).write_text(mutated(original, mutant))
            passed = passes(root, tests, timeouts_s[kind])
            (root / file).write_text(original)
            verdict = "timeout" if passed is None else "survived" if passed else "killed"
            outcomes.append(Outcome(file=file, mutant=mutant, verdict=verdict))
            if verdict != "killed":
                print(f"{verdict}: {file}:{mutant.line}: {mutant.what}", flush=True)
    return outcomes


def report(name: str, outcomes: list[Outcome]) -> float:
    """Print a line for each file and one for the target; returns the share of mutants noticed, in percent."""
    by_file: defaultdict[Path, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_file[outcome.file].append(outcome)
    for file, some in sorted(by_file.items()):
        print(f"  {file}: {sum(each.verdict != 'survived' for each in some)} of {len(some)}")
    noticed = sum(outcome.verdict != "survived" for outcome in outcomes)
    percent = 100 * noticed / len(outcomes) if outcomes else 100.0
    print(f"{name}: {noticed} of {len(outcomes)} mutants noticed, {percent:.1f} %", flush=True)
    return percent


def main(arguments: list[str] | None = None) -> int:
    """Run the targets that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="default: all")
    parser.add_argument("--file", help="only files whose path contains this; every mutant unless --sample is given")
    parser.add_argument("--sample", type=int, help="how many mutants to draw (default: the target's own figure)")
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--seed", type=int, help="of the draw (default: the target's own)")
    parser.add_argument("--floor", type=float, default=FLOOR_PERCENT, help="percent that must be noticed")
    parser.add_argument("--list", action="store_true", help="print the mutants and run nothing")
    options = parser.parse_args(arguments)
    low = False
    for name in options.targets or TARGETS:
        target = TARGETS[name]
        seed = target.seed if options.seed is None else options.seed
        sample = options.sample or (None if options.all or options.file else target.sample)
        if options.list:
            for file, mutant in draw(target, ROOT, only=options.file, sample=sample, seed=seed):
                print(f"{file}:{mutant.line}: {mutant.what}")
            continue
        try:
            outcomes = run_target(name, only=options.file, sample=sample, seed=seed)
        except BrokenBaseline as error:
            print(f"{name}: the tests fail without any mutation:\n{error}")
            return 1
        low |= report(name, outcomes) < options.floor
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
