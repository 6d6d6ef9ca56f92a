"""Coverage-guided fuzzing of every reader of outside bytes: `python -m tests.chaos.fuzz [--seconds 600] [TARGET ...]`.

Each target gets an equal share of the time in a process of its own (libFuzzer by way of atheris, an optional extra:
`pip install atheris`). What it finds stays in `--corpus`, so the next run goes on from there. Any exception but a
PotLabError is a finding: its bytes are written beside the corpus, and belong into a test.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

_SLOWEST_S, _MEMORY_MIB, _LONGEST_BYTES = 20, 3_000, 4_096


def fuzz_one(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process until libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["pot_lab"]):
        from pot_lab.errors import PotLabError
        from tests.chaos.fuzz_targets import targets
    read = targets()[name].read

    def try_(data: bytes) -> None:
        try:
            read(data)
        except PotLabError:
            pass

    atheris.Setup([sys.argv[0], *arguments], try_)
    atheris.Fuzz()


def fuzz_all(names: list[str], seconds: int, corpus: Path) -> int:
    """Fuzz targets one after the other; returns how many had findings."""
    from tests.chaos.fuzz_targets import targets

    found = 0
    known = targets()
    for name in names or sorted(known):
        folder = corpus / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(known[name].seeds):
            (folder / f"seed-{number}").write_bytes(seed)
        command = [
            sys.executable, "-m", "tests.chaos.fuzz", "--one", name, "--",
            f"-max_total_time={max(1, seconds // len(names or known))}", f"-artifact_prefix={folder}-finding-",
            f"-timeout={_SLOWEST_S}", f"-rss_limit_mb={_MEMORY_MIB}", f"-max_len={_LONGEST_BYTES}", str(folder),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        runs = re.findall(r"^Done (\d+) runs|^#(\d+)\s", done.stderr, re.MULTILINE)
        count = max((int(a or b) for a, b in runs), default=0)
        print(f"{name}: {count} runs, corpus {len(os.listdir(folder))}, {'FINDING' if done.returncode else 'clean'}")
        if done.returncode:
            found += 1
            print(done.stdout[-2_000:] + done.stderr[-4_000:])
        sys.stdout.flush()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--corpus", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*")
    chosen = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris (CPython up to 3.13 on Linux)")
        return 2
    if chosen.one:
        fuzz_one(chosen.one, chosen.targets)
    return min(1, fuzz_all(chosen.targets, chosen.seconds, chosen.corpus))


if __name__ == "__main__":
    sys.exit(main())
