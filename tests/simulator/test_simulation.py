"""Runs are functions of their seeds; every kind of fault happens; nothing is broken by any of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from pot_lab.agreement.quorum import BadReplicaCount
from pot_lab.simulator import byzantine, signatures
from pot_lab.simulator.profiles import PROFILES, UnknownProfile
from pot_lab.simulator.run import simulate
from pot_lab.simulator.simulation import SMALL_CHUNK_BYTES, Simulation
from tests.simulator import plants

EXPECTED_KINDS = {
    "network": {
        "frame_lost", "frame_duplicated", "frame_reordered", "frame_cut_off", "jitter", "partition", "one_way"
    },
    "crashes": {
        "crash", "power_cut", "blackout", "torn_write", "slow_disk", "stalled_disk", "full_disk",
        "stopped_by_full_disk", "slow_host", "standstill",
    },
    "disks": {"disk_lost", "bit_flip", "disk_replaced", "full_disk", "power_cut"},
    "amnesia": {"disk_lost", "crash", "frame_lost", "client_frame_lost"},
    "clocks": {"skew", "drift", "clock_jump"},
    "wan": {"wan", "slow_link", "slow_uplink", "jitter"},
    "byzantine": {"liar", "client_lie"},
    "members": {"set_changed"},
}  # fmt: skip


def test_one_seed_is_one_run() -> None:
    runs = [Simulation(5, 4, "everything").run() for _ in range(2)]
    assert runs[0] == runs[1] and len(runs[0].digest) == 64 and runs[0].events > 1_000


def test_a_run_without_one_fault_meets_the_others_unchanged() -> None:
    """What is left out changes nothing that was drawn for the others."""
    whole = Simulation(1, 5, "crashes")
    parts = whole.run().parts
    part = next(part for part in parts if "#" in part)
    less = Simulation(1, 5, "crashes", without=[part])
    outcome = less.run()
    assert set(outcome.parts) == set(parts) and part in outcome.replay
    assert less.faults != whole.faults and less.storm.faulty == whole.storm.faulty
    assert not Simulation(1, 5, "crashes", without=[part for part in parts if "#" not in part]).run().faults


def test_a_trace_tells_who_said_what_to_whom() -> None:
    simulation = Simulation(2, 4, "calm", make_application=plants.MintingLedger)
    trace = simulation.run().trace
    lines = trace.split("\n")
    assert lines[0].startswith("4 aggregators, f = 1, q = 3")
    assert any(re.search(r"^ +\d+\.\d{6}  0 > \d \d \d  PrePrepare view 0 batch \d+ at", line) for line in lines)
    assert any(re.search(r"^ +\d+\.\d{6}  \d +executed batch \d+: ", line) for line in lines)
    assert any(re.search(r"\* +client \d asks to", line) for line in lines)
    assert any(re.search(r"\* +VIOLATION money: ", line) for line in lines)
    assert "the aggregators at the end:" in lines


def test_seeds_differ() -> None:
    assert len({Simulation(seed, 4, "calm").run().digest for seed in range(3)}) == 3


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_run_does_not_depend_on_the_process_it_runs_in(hash_seed: str) -> None:
    program = "from pot_lab.simulator.simulation import Simulation; print(Simulation(7, 4, 'everything').run().digest)"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Simulation(7, 4, "everything").run().digest


def test_remembering_signatures_changes_nothing_but_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Simulation(11, 4, "byzantine").run()
    monkeypatch.setattr(signatures, "_recovered", Forgetful())
    monkeypatch.setattr(signatures, "_signed", Forgetful())
    assert Simulation(11, 4, "byzantine").run() == fast


class Forgetful(dict):
    def __setitem__(self, key: object, value: object) -> None:
        pass


def test_a_calm_network_settles_orders_and_answers_everybody() -> None:
    outcome = Simulation(1, 4, "calm").run()
    assert outcome.is_good and outcome.settled >= 1 and outcome.answered > 40
    assert not outcome.faults and not outcome.trace


@pytest.mark.parametrize("profile", sorted(EXPECTED_KINDS))
def test_every_fault_of_a_profile_happens_and_breaks_nothing(profile: str) -> None:
    report = simulate(range(1, 8), 4, profile, processes=1)
    assert not report.failures, [failure.trace for failure in report.failures]
    missing = {kind for kind in EXPECTED_KINDS[profile] if not report.faults[kind]}
    assert not missing


@pytest.mark.parametrize("kind", byzantine.KINDS, ids=lambda kind: kind.kind)
@pytest.mark.parametrize("liar", [0, 2])
def test_every_lie_is_told_and_breaks_nothing(kind: type[byzantine.Behaviour], liar: int) -> None:
    told = 0
    profile = "members" if kind is byzantine.OldKey else "calm"
    for seed in (3, 4):
        outcome = Simulation(seed, 4, profile, byzantine_hosts={liar: [kind]}).run()
        assert outcome.is_good, outcome.trace
        told += outcome.faults["byzantine_" + kind.kind]
    assert told or (liar and kind in (byzantine.BadTimes, byzantine.Twins))  # which only a primary can tell


def test_random_faults_break_nothing() -> None:
    report = simulate(range(1, 11))
    assert not report.failures, [failure.trace for failure in report.failures]
    assert report.seeds == 10 and report.events > 100_000 and report.catch_ups > 10 and report.view_changes


def test_a_checkpoint_that_was_written_by_a_process_that_died_before_it_went_on_counts() -> None:
    """It stood still between writing and all that follows, and was killed; its votes after that were called too far."""
    outcome = Simulation(10_097, 4, "crashes").run()
    assert outcome.is_good, outcome.trace


def test_a_log_may_be_compacted_twice_in_one_turn() -> None:
    """As after a restart: once for what the log holds, and once for what the others send at once."""
    outcome = Simulation(144, None, "everything").run()
    assert outcome.is_good, outcome.trace


def test_snapshots_are_taken_fetched_in_chunks_and_gone_on_from() -> None:
    """All that the replica asks of its runtime for snapshots happens in runs of this length."""
    fetched = compacted = largest = 0
    for seed in range(1, 6):
        simulation = Simulation(seed, 4, "amnesia")
        outcome = simulation.run()
        assert outcome.is_good, outcome.trace
        fetched += outcome.snapshots
        sizes = [len(data) for node in simulation.nodes for data in node.disk.snapshots.values()]
        largest = max(largest, *sizes, 0)
        compacted += sum(node.replica.low > 0 for node in simulation.nodes)
    assert fetched and compacted and largest > 2 * SMALL_CHUNK_BYTES


@pytest.mark.long
def test_many_random_faults_break_nothing() -> None:
    total = Counter[str]()
    for profile in PROFILES:
        report = simulate(range(10_000, 10_200), None, profile)
        assert not report.failures, [failure.replay for failure in report.failures]
        total += report.faults
    assert all(total[kind] for kinds in EXPECTED_KINDS.values() for kind in kinds)


def test_what_cannot_be_run_is_refused_by_name() -> None:
    with pytest.raises(UnknownProfile, match="stormy"):
        Simulation(1, 4, "stormy")
    with pytest.raises(BadReplicaCount):
        Simulation(1, 3, "calm")
