"""What it costs to have PoT Lab around: import time, and the resident memory of an idle testnet."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from report import main


def import_times(runs: int = 9) -> dict[str, Any]:
    """Median seconds of `import pot_lab` above a bare interpreter, and heavy modules that it loads (none is right)."""
    heavy = ("torch", "web3", "papermill", "matplotlib", "pandas")
    code = (
        "import sys, time; start = time.perf_counter(); import pot_lab; "
        f"print(time.perf_counter() - start, [m for m in {heavy!r} if m in sys.modules])"
    )
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(runs)
    ]
    return {
        "import_s": round(statistics.median(float(line.split(" ", 1)[0]) for line in found), 4),
        "heavy": found[-1].split(" ", 1)[1].strip(),
    }


def memory(aggregators: int = 4, idle_s: float = 10.0) -> dict[str, Any]:
    """Resident megabytes of each process of an idle testnet, with an aggregator without chain watcher beside."""
    from pot_lab.testnet.testnet import Testnet

    with tempfile.TemporaryDirectory() as folder:
        os.environ["POT_LAB_HOME"] = folder
        testnet = Testnet.up("bench", aggregators=aggregators)
        try:
            time.sleep(idle_s)
            found = {name: _resident_mb(testnet.pid(name)) for name in testnet.processes()}
            found["aggregator without chain"] = _bare_aggregator(testnet.folder, idle_s / 2)
        finally:
            testnet.down()
    total = sum(value for name, value in found.items() if name != "aggregator without chain")
    return {"resident_mb": found, "testnet_mb": round(total, 1)}


def _bare_aggregator(folder: Path, idle_s: float) -> float:
    """Aggregator 3 once more, after the first was stopped, without its chain watcher."""
    facts = json.loads((folder / "testnet.json").read_text())
    os.kill(facts["processes"]["aggregator-3"]["pid"], 15)
    time.sleep(1.5)
    own = folder / "aggregators" / "3"
    command = [
        "--network",
        str(folder / "network.toml"),
        "--index",
        "3",
        "--keys",
        str(own / "keys"),
        "--data",
        str(own / "data"),
        "--no-chain",
    ]
    program = [sys.executable, "-m", "pot_lab.cli", "aggregator"]
    process = subprocess.Popen([*program, *command], stderr=subprocess.DEVNULL)
    try:
        time.sleep(idle_s)
        return _resident_mb(process.pid)
    finally:
        process.terminate()
        process.wait()


def _resident_mb(pid: int) -> float:
    return round(psutil.Process(pid).memory_info().rss / 1e6, 1)


if __name__ == "__main__":
    main(__doc__, lambda _chosen: {**import_times(), **memory()})
