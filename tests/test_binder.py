"""`binder/`: the steps of its image, run without one, end in a Lab with the tour, a network and practice miners."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IMAGE_LIMIT_MB = 2_000


def run_steps(*options: str, timeout_s: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "binder" / "run_steps.py"), *options],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_steps_end_in_a_lab_with_the_tour_and_a_network_with_miners() -> None:
    figures = run_steps("--installed", timeout_s=1_100)
    assert {"build_s", "lab_s", "network_s"} < figures.keys()
    assert 0 < figures["memory_mb"] < IMAGE_LIMIT_MB


@pytest.mark.long
def test_a_new_environment_gets_everything_and_runs_the_tour_to_its_end() -> None:
    figures = run_steps("--tour", timeout_s=7_000)
    assert figures["tour_s"] > 0 and figures["memory_mb"] < IMAGE_LIMIT_MB


def test_its_files_are_what_a_binder_reads() -> None:
    for name in ("postBuild", "start"):
        path = ROOT / "binder" / name
        assert os.access(path, os.X_OK) and path.read_text().startswith("#!/bin/bash\n")
    assert (ROOT / "binder" / "start").read_text().rstrip().endswith('exec "$@"')
    workspace = json.loads((ROOT / "binder" / "workspace.json").read_text())
    (tab,) = workspace["data"]["layout-restorer:data"]["main"]["dock"]["widgets"]
    kind, _, path_ = tab.partition(":")
    assert kind == "notebook" and workspace["data"][tab]["data"]["path"] == path_ and (ROOT / path_).is_file()
    panel = (ROOT / "labextension" / "src" / "panel.tsx").read_text()
    left = workspace["data"]["layout-restorer:data"]["left"]
    assert left["current"] in left["widgets"] and f"this.id = '{left['current']}'" in panel
