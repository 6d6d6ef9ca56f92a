"""Plant each bug, run the attacks, say which bugs nobody noticed."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chain.mutants.planted import MUTANTS, Mutant
from tests.chain.world import SOURCES

ATTACKS = (
    "test_settlement_attacks",
    "test_way_home",
    "test_payouts",
    "test_wallet",
    "test_keys_and_stakes",
    "test_governance",
)
TESTS = [f"tests/chain/{name}.py" for name in ATTACKS]
_LIMIT_S = 1_200


def compile_mutant(mutant: Mutant, folder: Path) -> Path:
    """Compile one contract with its bug; returns the build.

    Raises:
        ValueError: the bug does not fit the contract, or the contract does not compile with it.
    """
    (folder / "compiler").mkdir(parents=True)
    source = SOURCES / f"{mutant.contract}.sol"
    (folder / source.name).write_text(mutant.plant(source.read_text()))
    shutil.copy(SOURCES / "compiler" / "compile.mjs", folder / "compiler")
    (folder / "compiler" / "node_modules").symlink_to(SOURCES / "compiler" / "node_modules")
    made = folder / "artifacts.json"
    command = ["node", "compile.mjs", str(made)]
    done = subprocess.run(command, cwd=folder / "compiler", capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{mutant.name}: does not compile: {done.stderr[:2_000]}")
    return made


def caught_by(made: Path, first: str = "") -> str | None:
    """The first test that fails with this build; None if all pass."""
    for selected in filter(None, (["-k", first] if first else None, ["-k", ""])):
        environment = {**os.environ, "POT_LAB_MUTANT": str(made)}
        plugins = ["-p", "tests.chain.mutants.plugin", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", *plugins, *selected, *TESTS]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
        if done.returncode == 5:
            raise ValueError(f"no test has {first!r} in its name")
        if done.returncode not in (0, 1):  # 1: a test failed; anything else is a fault of this run
            raise RuntimeError(done.stdout[-2_000:] + done.stderr[-2_000:])
        failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if failed:
            return failed[0]
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chain.mutants")
    parser.add_argument("--only", metavar="WORD", default="", help="bugs whose contract or name has this")
    parser.add_argument("--compile", action="store_true", help="compile only: whether the bugs fit the contracts")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.compile and (test := caught_by(SOURCES / "artifacts.json")):
        raise RuntimeError(f"a test fails with the committed build already: {test}")
    found: dict[str, str | None] = {}
    for mutant in MUTANTS:
        if arguments.only not in f"{mutant.contract} {mutant.name}":
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = compile_mutant(mutant, Path(folder) / "contracts")
            found[mutant.name] = "compiled" if arguments.compile else caught_by(made, mutant.first)
        if not arguments.json:
            print(f"{mutant.contract:<17} {mutant.name:<55} {found[mutant.name] or 'NOT CAUGHT'}", flush=True)
    if arguments.json:
        print(json.dumps({"mutants": len(found), "caught": found}))
    return int(None in found.values())


if __name__ == "__main__":
    sys.exit(main())
