"""Loaded by pytest (`-p`): the contracts of this process are those of the file that $POT_LAB_MUTANT names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pot_lab.chain import contract

_COMMITTED = contract.artifacts()
_MUTATED = json.loads(Path(os.environ["POT_LAB_MUTANT"]).read_text())


def _artifacts() -> dict[str, Any]:
    return {**_COMMITTED, "contracts": {**_COMMITTED["contracts"], **_MUTATED["contracts"]}}


contract.artifacts = _artifacts  # type: ignore[assignment]
