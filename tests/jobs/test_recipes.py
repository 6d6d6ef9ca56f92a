"""Stock notebooks, and the seed with which the stock provider trains."""

from __future__ import annotations

import json
import time
from pathlib import Path

from pot_lab.jobs.recipes import recipe, training_seed
from pot_lab.jobs.workspace import Workspace
from pot_lab.scoring import pack_dataset
from tests.protocol.world import key
from tests.scoring.models import exported, family


def test_two_providers_train_with_two_seeds_and_one_with_the_same_again() -> None:
    seeds = [training_seed(key(f"provider {number}").address) for number in range(20)]
    assert len(set(seeds)) == 20
    assert seeds[0] == training_seed(key("provider 0").address)
    assert training_seed(b"\xff" * 20) == (1 << 31) - 1 and training_seed(bytes(20)) == 0


def test_the_stock_provider_trains_in_its_window_and_claims_only_what_was_trained(tmp_path: Path) -> None:
    """Its code as it is, with no more than the workspace set."""
    _, inputs, targets = family("mlp")
    artifact = exported("mlp")
    facts = {
        "order_id": "ab" * 32,
        "title": "digits",
        "score": "cross_entropy/1",
        "stop_training_ms": time.time_ns() // 1_000_000 + 4_000,
    }
    files = {
        "graph.json": artifact.graph,
        "weights.safetensors": artifact.weights,
        "train.safetensors": pack_dataset(inputs, targets),
    }
    Workspace.create(tmp_path, facts, files)
    names: dict[str, object] = {}
    for cell in json.loads(recipe("provider").read_text())["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names["workspace"] = str(tmp_path)
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert evidence["score_function"] == "cross_entropy/1" and evidence["settings"]["learning_rate"] is None
    log = tmp_path / "submitted.jsonl"
    claimed = [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []
    assert claimed == sorted(claimed) and 0 not in claimed
    assert (tmp_path / "train.safetensors").read_bytes() == files["train.safetensors"]
