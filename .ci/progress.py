"""Shows how far `pip install` has come: reads pip's output and prints a line now and then.

python .ci/progress.py CONSTRAINTS < pip's output

A first install downloads about 1 GB and takes minutes, and pip says either nothing or thousands of lines. Packages are
counted against the lines of the constraints file, so "of about".
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

EVERY = 20
_FOUND = re.compile(
    r"^(?:Collecting |Requirement already satisfied: |Processing \S*/)([A-Za-z0-9._]+(?:-[A-Za-z_.]+)*)"
)
_LARGE = re.compile(r"^\s*Downloading (\S+) \(((?:[0-9.]+ GB)|(?:[0-9]{2,}[0-9.]* MB))\)")
_STEPS = (
    ("Installing build dependencies", "preparing the build of this package"),
    ("Preparing editable metadata", "asking for packages"),
    ("Building editable", "building the JupyterLab extension (npm)"),
    ("Building wheel", "building a package from source"),
    ("Installing collected", "all downloaded; unpacking them takes a minute or more"),
)


def main(constraints: Path) -> None:
    """Read standard input to its end."""
    about = sum(1 for line in constraints.read_text().splitlines() if line and line[0] != "#")
    begun = time.monotonic()
    seen: set[str] = set()

    def show(text: str) -> None:
        print(f"  {time.monotonic() - begun:4.0f} s  {text}", flush=True)

    for line in sys.stdin:
        if line.rstrip().endswith(": finished with status 'done'"):
            continue
        found, large = _FOUND.match(line), _LARGE.match(line)
        if found and found[1] not in seen:
            seen.add(found[1])
            if len(seen) % EVERY == 0:
                show(f"{len(seen)} of about {about} packages")
        elif large:
            show(f"downloading {large[1].partition('-')[0]}, {large[2]}")
        for beginning, text in _STEPS:
            if line.lstrip().startswith(beginning):
                show(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
