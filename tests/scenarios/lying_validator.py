"""`pot-lab mine validator` that lies: it calls one example of each model other than the model gives.

python -m tests.scenarios.lying_validator ARGUMENTS
"""

from __future__ import annotations

import sys
from pathlib import Path

from pot_lab.cli.main import main
from pot_lab.jobs import validator
from pot_lab.jobs.workspace import ScoringResult
from pot_lab.scoring import Transcript, parse_transcript

_honest = validator.read_results


def lying_results(folder: Path) -> list[ScoringResult] | None:
    """What the notebook found, with one result of each transcript turned round."""
    results = _honest(folder)
    for each in results or []:
        path = folder / each.transcript
        found = parse_transcript(path.read_bytes(), count=each.count)
        values = found.values.copy()
        values[each.count // 2] = 1 - values[each.count // 2]
        lie = Transcript(found.function, True, values)
        path = folder / f"lie-{path.name}"
        path.write_bytes(lie.data)
        each.transcript, each.root, each.total = path.name, lie.root.hex(), lie.total
        each.top_hash, each.top_total = lie.tree.top.hash.hex(), lie.tree.top.total
    return results


if __name__ == "__main__":
    validator.read_results = lying_results  # type: ignore[attr-defined]
    sys.exit(main(["mine", "validator", *sys.argv[1:]]))
