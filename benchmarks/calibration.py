"""How fast this machine is right now (`pot_lab.bench.calibration`); every report has the same beside its figures."""

from __future__ import annotations

from report import main

if __name__ == "__main__":
    main(__doc__, lambda _chosen: {})
