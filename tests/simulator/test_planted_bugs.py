"""The simulator can fail: each planted bug is caught within a bounded number of seeds, by the rule that it breaks.

The same seeds without the bug break nothing, so it is the bug that is seen. A bug that costs liveness shows as a run
that is stuck.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pot_lab.simulator.byzantine import (
    BadTimes,
    Behaviour,
    Flood,
    Forge,
    Twins,
)
from pot_lab.simulator.simulation import Outcome, Simulation
from tests.simulator import plants

pytestmark = pytest.mark.long
"""Some bugs need tens of runs to show; the view change made honest runs, and so these, several times longer."""


@dataclass
class Bug:
    """A planted bug and where it shows.

    Attributes:
        parts: what of the simulation it replaces.
        rules: names of the rules that may see it; "stuck" for liveness.
        seeds: how many are tried at most.
    """

    parts: dict[str, Any]
    rules: tuple[str, ...]
    profile: str = "calm"
    nodes: int = 4
    liars: dict[int, list[type[Behaviour]]] = field(default_factory=dict)
    seeds: int = 20

    def run(self, seed: int, parts: dict[str, Any]) -> Outcome:
        return Simulation(seed, self.nodes, self.profile, liars=self.liars, **parts).run()


BUGS: dict[str, Bug] = {
    "quorum of f+1": Bug({"make_replica": plants.QuorumOfFPlusOne}, ("agreement",), liars={0: [Twins]}),
    "quorum of 2f+1 at n=6": Bug(
        {"make_replica": plants.QuorumOfTwoFPlusOne}, ("agreement",), nodes=6, liars={0: [Twins]}
    ),
    "digest of a commit not checked": Bug(
        {"make_replica": plants.VotesForAnything}, ("agreement",), liars={0: [Twins]}
    ),
    "votes counted for whom they name": Bug(
        {"make_replica": plants.VotesInOthersNames}, ("agreement", "word"), liars={0: [Twins, Forge]}
    ),
    "signatures not checked": Bug(
        {"make_replica": plants.SignsForEverybody}, ("agreement", "word", "stuck"), liars={2: [Forge]}
    ),
    "proposed time not checked": Bug({"make_replica": plants.TakesAnyTime}, ("validity",), liars={0: [BadTimes]}),
    "decisions believed without proof": Bug(
        {"make_replica": plants.BelievesDecisions}, ("agreement", "validity"), "crashes", liars={2: [Forge]}
    ),
    "bodies not compared with their digests": Bug(
        {"make_replica": plants.TakesAnyBody}, ("agreement", "once", "validity"), liars={0: [Forge]}
    ),
    "request not validated": Bug(
        {"make_application": plants.TrustingLedger}, ("validity",), liars={0: [Forge]}
    ),
    "reply cache lost": Bug({"make_replica": plants.ForgetsReplies}, ("once",), "network"),
    "retries answered wrongly": Bug({"make_replica": plants.AnswersRetriesWrongly}, ("acknowledged",), "network"),
    "no upper watermark": Bug({"make_replica": plants.NoUpperWatermark}, ("memory",), liars={2: [Flood]}),
    "stash without a limit": Bug({"make_replica": plants.EndlessStash}, ("memory",), liars={2: [Flood]}),
    "sequence off by one": Bug({"make_replica": plants.TwoBatchesInOne}, ("agreement", "word"), "network"),
    "missing fsync": Bug({"make_disk": plants.NeverSynced}, ("word", "agreement", "acknowledged"), "crashes"),
    "sent before it is on disk": Bug(
        {"make_node": plants.SendsFirst}, ("word", "agreement", "acknowledged"), "crashes"
    ),
    "money out of nothing": Bug({"make_application": plants.MintingLedger}, ("money",)),
    "ledger not deterministic": Bug(
        {"make_application": plants.diverging_ledgers()}, ("agreement", "word")
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught(name: str) -> None:
    bug = BUGS[name]
    for seed in range(1, bug.seeds + 1):
        outcome = bug.run(seed, bug.parts)
        seen = outcome.violation.split(":")[0] if outcome.violation else "stuck" if outcome.stuck else ""
        if seen in bug.rules and (seen != "stuck" or bug.run(seed, {}).stuck is None):
            assert f"--seeds {seed}..{seed}" in outcome.replay and "its last moments:" in outcome.trace
            assert bug.run(seed, {}).violation is None
            return
    pytest.fail(f"{name}: not caught in {bug.seeds} seeds")
