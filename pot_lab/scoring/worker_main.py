"""What a scoring worker process runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from pot_lab.errors import PotLabError
from pot_lab.scoring.dataset import DatasetFile
from pot_lab.scoring.evaluate import evaluated
from pot_lab.scoring.exact_model import exact_model
from pot_lab.scoring.functions import score_function
from pot_lab.scoring.graph.reader import load_graph
from pot_lab.scoring.workers import Task


def main(arguments: Sequence[str]) -> int:
    """One worker. Refusals are one line on stderr, and exit code 1."""
    task = Task(**json.loads(Path(arguments[0]).read_text()))
    torch.set_num_threads(task.threads)
    try:
        function = score_function(task.function)
        exact = exact_model(
            load_graph(Path(task.graph).read_bytes()),
            Path(task.weights).read_bytes(),
            device=task.device,
            slices=function.slices,
        )
        data = DatasetFile(Path(task.data))
        values, invalid = evaluated(
            exact,
            data.inputs,
            data.targets,
            function,
            rows=range(task.start, task.stop),
            batch_size=task.batch_size,
            after_batch=lambda done: data.release(),
        )
    except (PotLabError, OSError) as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return 1
    np.save(task.result, np.stack([values.astype(np.int64), invalid.astype(np.int64)]), allow_pickle=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
