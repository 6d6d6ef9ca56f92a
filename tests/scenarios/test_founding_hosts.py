"""Four operators on four hosts of their own, each a network namespace, found a network; one host is lost for good."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.test_partitions import INSIDE, namespaces_missing
from tests.network.toy import ROOT


@pytest.mark.long
@pytest.mark.timeout(2_400)
def test_four_hosts_found_a_network_and_one_of_them_is_lost_and_replaced(tmp_path: Path) -> None:
    reason = namespaces_missing()
    if reason:
        pytest.skip(f"no network namespaces on this machine: {reason}")
    command = [*INSIDE, sys.executable, "-m", "tests.chaos.founding_hosts", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=2_200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["met"] == [0, 0, 0, 0] and found["ended"] == [None] * 4
