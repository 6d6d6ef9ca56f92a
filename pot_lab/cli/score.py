"""`pot-lab score`: the score of files, on any machine, without a network. Its options stand in `pot_lab.cli.main`."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pot_lab.errors import PotLabError
from pot_lab.scoring.evaluate import score_file
from pot_lab.scoring.self_test import run_self_test

if TYPE_CHECKING:
    pass


def score_files(chosen: argparse.Namespace) -> None:
    """Check this machine's arithmetic, score, print. Raises: SelfTestFailed, and what `score_file` raises."""
    run_self_test("cuda" if chosen.device.startswith("cuda") else "cpu")
    try:
        found = score_file(
            chosen.graph,
            chosen.weights,
            chosen.data,
            chosen.function,
            batch_size=chosen.batch_size,
            device=chosen.device,
            slices=chosen.slices,
            workers=chosen.workers,
        )
        if chosen.transcript is not None:
            chosen.transcript.write_bytes(found.transcript.data)
    except OSError as problem:
        raise PotLabError(
            "a file cannot be read or written", seen=f"{problem.filename}: {problem.strerror}"
        ) from problem
    facts = {
        "function": found.function.identifier,
        "total": found.total,
        "count": found.count,
        "valid": found.valid,
        "digest": found.digest.hex(),
        "root": found.root.hex(),
    }
    if chosen.json:
        print(json.dumps(facts))
        return
    print(f"function  {found.function.identifier}: {found.function.unit}")
    print(f"score     {found.total} over {found.count} examples" if found.valid else "score     invalid")
    if not found.valid:
        print(f"          {found.total} of {found.count} examples have no finite result")
    print(f"digest    {found.digest.hex()}")
    print(f"root      {found.root.hex()}")


def _score(chosen: argparse.Namespace) -> None:
    from pot_lab.cli.score import score_files

    score_files(chosen)
