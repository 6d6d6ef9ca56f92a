"""PoT Lab: order a training from a notebook, pay whoever returns the best model.

    import pot_lab
    lab = pot_lab.connect()
    order = lab.order(model=net, train=(x, y), test=(xt, yt), reward=25, train_for="10min")

Everything public is named here and loads when it is first used, so that importing this takes no time and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pot_lab.errors import PotLabError
    from pot_lab.jobs.progress import Progress
    from pot_lab.jobs.workspace import ScoringTask, TrainingTask
    from pot_lab.notebook.lab import Lab, connect
    from pot_lab.notebook.order import Order
    from pot_lab.scoring import Score, export_model, pack_dataset, score, score_example, score_functions
    from pot_lab.testnet.testnet import Testnet
    from pot_lab.training import Trainer, TrainerSettings

if not __debug__:  # an ImportError, not an exit: a Jupyter server that loads this as an extension goes on without it
    raise ImportError("pot_lab does not run under python -O or PYTHONOPTIMIZE: start Python without them")

__version__ = "0.1.0"

_HOMES = {
    "connect": "pot_lab.notebook.lab",
    "Lab": "pot_lab.notebook.lab",
    "Order": "pot_lab.notebook.order",
    "Testnet": "pot_lab.testnet.testnet",
    "PotLabError": "pot_lab.errors",
    "Score": "pot_lab.scoring",
    "score": "pot_lab.scoring",
    "score_example": "pot_lab.scoring",
    "score_functions": "pot_lab.scoring",
    "export_model": "pot_lab.scoring",
    "pack_dataset": "pot_lab.scoring",
    "Trainer": "pot_lab.training",
    "TrainerSettings": "pot_lab.training",
    "TrainingTask": "pot_lab.jobs.workspace",
    "ScoringTask": "pot_lab.jobs.workspace",
    "Progress": "pot_lab.jobs.progress",
}

__all__ = [
    "Lab",
    "Order",
    "PotLabError",
    "Progress",
    "Score",
    "ScoringTask",
    "Testnet",
    "Trainer",
    "TrainerSettings",
    "TrainingTask",
    "__version__",
    "connect",
    "export_model",
    "pack_dataset",
    "score",
    "score_example",
    "score_functions",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
