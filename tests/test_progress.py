"""What a first `make install` shows while pip works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_counts_packages_and_names_large_downloads_and_steps(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("# pins\n" + "".join(f"package-{i}==1\n" for i in range(50)))
    lines = ["Obtaining file:///somewhere", "  Installing build dependencies: started"]
    lines += ["  Installing build dependencies: finished with status 'done'"]
    for i in range(20):
        lines += [f"Collecting package-{chr(97 + i)}>=1 (from pot-lab)", "  Using cached package.whl (3 kB)"]
    lines += [f"Processing /wheels/local_{chr(97 + i)}-1.0-py3-none-any.whl (from pot-lab)" for i in range(20)]
    lines += ["Collecting package-a (from again)", "  Downloading torch-2.13.0-cp311-linux_x86_64.whl (190.2 MB)"]
    lines += ["Installing collected packages: all"]
    command = [sys.executable, str(ROOT / ".ci" / "progress.py"), str(constraints)]
    shown = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True).stdout
    assert [re.sub(r"^ +\d+ s  ", "", line) for line in shown.splitlines()] == [
        "preparing the build of this package",
        "20 of about 50 packages",
        "40 of about 50 packages",
        "downloading torch, 190.2 MB",
        "all downloaded; unpacking them takes a minute or more",
    ]
