"""How fast this machine is right now (`pot_lab.bench.calibration`), for the programs beside this one."""

from __future__ import annotations

import json

from pot_lab.bench.calibration import calibrate

if __name__ == "__main__":
    print(json.dumps(calibrate()))
