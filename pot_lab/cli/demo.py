"""`pot-lab demo`."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pot_lab.cli.common import _interrupt_on_sigterm

if TYPE_CHECKING:
    pass


# --- commands ----------------------------------------------------------------------------------------------------
def _demo(chosen: argparse.Namespace) -> None:
    from pot_lab.demo import run_demo

    _interrupt_on_sigterm()
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = chosen.run_dir or Path("runs") / f"demo-{stamp}-{os.getpid()}"

    def say(text: str) -> None:
        print(text, flush=True)

    summary = run_demo(folder, train_for=chosen.train_for, kill_backup=chosen.kill_backup, say=say)
    if chosen.json:
        print(json.dumps(summary), flush=True)
