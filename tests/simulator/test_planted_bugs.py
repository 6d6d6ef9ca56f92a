"""The simulator can fail: each planted bug is caught within a bounded number of seeds, by the rule that it breaks.

The same seeds without the bug break nothing, so it is the bug that is seen. A bug that costs liveness shows as a run
that is stuck.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pot_lab.consensus import membership, records, snapshot_fetch, view_change
from pot_lab.simulator.byzantine import (
    BadCheckpoints,
    BadTimes,
    BadViews,
    Behaviour,
    Equivocate,
    Flood,
    Forge,
    OldKey,
    Silent,
    Twins,
    Withhold,
)
from pot_lab.simulator.outcome import Outcome
from pot_lab.simulator.simulation import Simulation
from tests.simulator import plants

LATE = {
    "quorum of 2f+1 at n=6",
    "a key counts after its rotation",
    "digest of a commit not checked",
    "request not validated",
    "high watermark off by one",
    "prepared certificate dropped in a view change",
    "a view change is not written down",
}
"""Bugs that take more than a few runs to show: looked for in the long suite only."""


@dataclass
class Bug:
    """A planted bug and where it shows.

    Attributes:
        parts: what of the simulation it replaces.
        patches: functions that it replaces, wherever they are known by name, and by what.
        rules: names of the rules that may see it; "stuck" for liveness.
        seeds: how many are tried at most.
    """

    parts: dict[str, Any]
    rules: tuple[str, ...]
    profile: str = "calm"
    nodes: int = 4
    byzantine_hosts: dict[int, list[type[Behaviour]]] = field(default_factory=dict)
    seeds: int = 20
    patches: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = ()

    def run(self, seed: int, parts: dict[str, Any]) -> Outcome:
        return Simulation(seed, self.nodes, self.profile, byzantine_hosts=self.byzantine_hosts, **parts).run()


BUGS: dict[str, Bug] = {
    "quorum of f+1": Bug(
        {"make_replica": plants.QuorumOfFPlusOne, "make_checkers": plants.ConsequencesOnly},
        ("agreement",),
        byzantine_hosts={0: [Twins]},
    ),
    "quorum of 2f+1 at n=6": Bug(
        {"make_replica": plants.QuorumOfTwoFPlusOne, "make_checkers": plants.ConsequencesOnly},
        ("agreement",),
        nodes=6,
        byzantine_hosts={0: [Twins]},
    ),
    "digest of a commit not checked": Bug(
        {"make_replica": plants.VotesForAnything}, ("agreement",), byzantine_hosts={0: [Twins]}
    ),
    "votes counted for whom they name": Bug(
        {"make_replica": plants.VotesInOthersNames}, ("agreement", "signing"), byzantine_hosts={0: [Twins, Forge]}
    ),
    "signatures not checked": Bug(
        {"make_replica": plants.SignsForEverybody}, ("agreement", "signing", "stuck"), byzantine_hosts={2: [Forge]}
    ),
    "proposed time not checked": Bug(
        {"make_replica": plants.TakesAnyTime}, ("validity",), byzantine_hosts={0: [BadTimes]}
    ),
    "decisions believed without proof": Bug(
        {"make_replica": plants.BelievesDecisions}, ("agreement", "validity"), "crashes", byzantine_hosts={2: [Forge]}
    ),
    "bodies not compared with their digests": Bug(
        {"make_replica": plants.TakesAnyBody}, ("agreement", "once", "validity"), byzantine_hosts={0: [Forge]}
    ),
    "request not validated": Bug(
        {"make_application": plants.TrustingLedger}, ("validity",), byzantine_hosts={0: [Forge]}
    ),
    "reply cache lost": Bug({"make_replica": plants.ForgetsReplies}, ("once",), "network"),
    "retries answered wrongly": Bug({"make_replica": plants.AnswersRetriesWrongly}, ("acknowledged",), "network"),
    "upper watermark too high": Bug(
        {"make_replica": plants.HighUpperWatermark}, ("memory",), byzantine_hosts={2: [Flood]}
    ),
    "high watermark off by one": Bug({"make_replica": plants.WindowOneHigher}, ("window",), "network"),
    "early messages without a limit": Bug(
        {"make_replica": plants.UnboundedEarlyMessages}, ("memory",), byzantine_hosts={2: [Flood]}
    ),
    "missing fsync": Bug({"make_disk": plants.NeverSynced}, ("signing", "agreement", "acknowledged"), "crashes"),
    "sent before it is on disk": Bug(
        {"make_node": plants.SendsFirst}, ("signing", "agreement", "acknowledged"), "crashes"
    ),
    "money out of nothing": Bug({"make_application": plants.MintingLedger}, ("money",)),
    "prepared certificate dropped in a view change": Bug(
        {"make_replica": plants.HidesWhatItPrepared}, ("agreement", "signing"), "network", seeds=60
    ),
    "votes in the view it left": Bug(
        {"make_replica": plants.StaysInTheOldView}, ("signing",), byzantine_hosts={0: [Equivocate]}
    ),
    "never leaves its view": Bug(
        {"make_replica": plants.NeverLeavesItsView}, ("stuck",), byzantine_hosts={0: [Silent]}
    ),
    "a view change is not written down": Bug(
        {"make_replica": plants.ForgetsThatItLeft},
        ("signing", "agreement"),
        "crashes",
        byzantine_hosts={0: [Withhold]},
        seeds=60,
    ),
    "votes not read back from the log": Bug(
        {"make_replica": plants.ForgetsItsVotes}, ("signing", "agreement"), "crashes"
    ),
    "first batch above the watermark left out of a new view": Bug(
        {},
        ("agreement", "signing", "stuck"),
        "network",
        byzantine_hosts={0: [Withhold]},
        seeds=60,
        patches=((view_change.plan, plants.plan_without_the_first),),
    ),
    "new view not checked": Bug(
        {},
        ("agreement", "signing"),
        "partitions",
        byzantine_hosts={1: [BadViews]},
        seeds=60,
        patches=((view_change.check_new_view, plants.believed_new_view),),
    ),
    "snapshot taken unchecked": Bug(
        {},
        ("agreement", "signing", "money"),
        "partitions",
        byzantine_hosts={1: [BadCheckpoints]},
        seeds=60,
        patches=((snapshot_fetch.SnapshotFetch.take, plants.believed_chunk),),
    ),
    "compaction drops votes": Bug(
        {},
        ("signing", "agreement", "acknowledged"),
        "crashes",
        patches=((records.compacted, plants.compacted_to_nothing),),
    ),
    "quorum of the old set used": Bug({"make_replica": plants.OldQuorum}, ("quorum",), "members"),
    "another set in force without notice": Bug(
        {"make_replica": plants.BeginsAtOnce}, ("seat", "agreement", "signing", "stuck"), "members"
    ),
    "a joiner's votes count before it is in": Bug(
        {"make_replica": plants.CountsOutsiders}, ("quorum",), "members", byzantine_hosts={4: [plants.EarlyBird]}
    ),
    "a key counts after its rotation": Bug(
        {},
        ("key",),
        "members",
        byzantine_hosts={2: [OldKey]},
        patches=((membership.Verifier.signed, plants.signed_with_any_key),),
    ),
    "ledger not deterministic": Bug({"make_application": plants.diverging_ledgers()}, ("agreement", "signing")),
}


def places_of(function: Callable[..., Any]) -> list[Any]:
    """Where a function is known by its name: every module of consensus and simulator that imports it, or its class."""
    found: list[Any] = []
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("pot_lab.consensus.", "pot_lab.simulator.")):
            classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name]
            found += [each for each in (module, *classes) if vars(each).get(function.__name__) is function]
    assert found, function
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LATE else []) for name in BUGS]
)
def test_a_planted_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = BUGS[name]
    for seed in range(1, bug.seeds + 1):
        with monkeypatch.context() as planted:
            for function, by in bug.patches:
                for where in places_of(function):
                    planted.setattr(where, function.__name__, by)
            outcome = bug.run(seed, bug.parts)
        if outcome.rule in bug.rules:
            assert f"--seeds {seed}..{seed}" in outcome.replay and "its last moments:" in outcome.trace
            without = bug.run(seed, {})
            assert without.is_good, without.trace
            return
    pytest.fail(f"{name}: not caught in {bug.seeds} seeds")
