"""Many seeds: run them on all cores, add up what they met, keep what failed.

A seed's run depends on nothing but seed, number of aggregators, profile and the faults that are left out; how seeds are
spread over processes changes only the time.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pot_lab.agreement.quorum import check_size
from pot_lab.errors import PotLabError
from pot_lab.simulator.outcome import Outcome
from pot_lab.simulator.profiles import profile_of
from pot_lab.simulator.simulation import Simulation

USUAL_PROFILE = "everything"
_SEEDS_A_TASK = 4


class BadSeeds(PotLabError):
    """A range of seeds cannot be read.

    What to do: write `A..B` with A not above B.
    """


class UnknownFault(PotLabError):
    """No seed that was run has the fault that was to be left out.

    What to do: leave out a fault that the run lists.
    """


class BadProcesses(PotLabError):
    """So many processes cannot be run.

    What to do: choose at least one process, and at most as many as there are cores.
    """


class ProcessLost(PotLabError):
    """A process that ran seeds is gone: killed, or out of memory.

    What to do: run fewer processes at once, or free memory.
    """


@dataclass
class Report:
    """What a range of seeds showed.

    Attributes:
        seeds: how many were run.
        events: moments of virtual time in all of them.
        faults: how often each kind of fault happened.
        view_changes: views that correct aggregators left behind, the furthest of each run.
        catch_ups: how often an aggregator took decisions or a snapshot from another.
        failures: the outcomes of seeds that broke a promise or got stuck.
    """

    seeds: int = 0
    events: int = 0
    batches: int = 0
    answered: int = 0
    view_changes: int = 0
    catch_ups: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """How many seeds broke a promise."""
        return sum(outcome.violation is not None for outcome in self.failures)

    @property
    def stuck(self) -> int:
        """How many seeds did not recover in time."""
        return sum(outcome.stuck is not None for outcome in self.failures)

    def add(self, outcome: Outcome) -> None:
        """Count one seed's run."""
        self.seeds += 1
        self.events += outcome.events
        self.batches += outcome.batches
        self.answered += outcome.answered
        self.view_changes += outcome.view_changes
        self.catch_ups += outcome.catch_ups
        self.faults.update(outcome.faults)
        if not outcome.is_good:
            self.failures.append(outcome)

    def facts(self) -> dict[str, Any]:
        """What `pot-lab simulate --json` prints, but for the time that it took."""
        return {
            "seeds": self.seeds,
            "events": self.events,
            "violations": self.violations,
            "stuck": self.stuck,
            "faults": dict(sorted(self.faults.items())),
            "view_changes": self.view_changes,
            "catch_ups": self.catch_ups,
        }


def seeds_of(text: str) -> range:
    """The seeds that `A..B` names, both ends included; one number names itself. Raises BadSeeds."""
    first, _, last = text.partition("..")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds or seeds[0] < 0:
        raise BadSeeds("seeds are given as A..B", seen=text, wanted="e.g. 1..2000")
    return seeds


def run_seed(seed: int, nodes: int | None, profile: str, without: Collection[str] = ()) -> Outcome:
    """Run one seed."""
    return Simulation(seed, nodes, profile, without=without).run()


def minimise(failed: Outcome, run: Callable[..., Outcome] | None = None) -> Outcome:
    """The same seed with every fault left out that it fails without, in the same way.

    Whole kinds of faults go first, then single episodes, until none can go: a minimum in the sense that each fault that
    is left is needed. Takes a run for each fault, and again for each that is left.
    """
    run = run or run_seed
    smallest, tried = failed, True
    while tried:
        tried = False
        for part in sorted(set(smallest.parts) - set(smallest.without), key=lambda part: ("#" in part, part)):
            kind = part.split("#")[0]
            if part in smallest.without or kind in smallest.without:
                continue
            without = {each for each in smallest.without if each.split("#")[0] != part} | {part}
            outcome = run(failed.seed, failed.nodes, failed.profile, without)
            if outcome.rule == failed.rule:
                smallest, tried = outcome, True
    return smallest


def simulate(
    seeds: Iterable[int],
    nodes: int | None = None,
    profile: str = USUAL_PROFILE,
    *,
    without: Collection[str] = (),
    processes: int | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> Report:
    """Run seeds and report.

    Args:
        nodes: how many aggregators; None: each seed decides.
        profile: which faults may come; see `profiles.PROFILES`.
        without: faults to leave out of those that a seed brings; see `Simulation`.
        processes: how many run at once; None: one for each core.
        on_outcome: called with each seed's outcome, in the order of the seeds.
    Raises:
        UnknownProfile, UnknownFault, BadReplicaCount, BadProcesses: there is no such profile, fault or network, or it
            cannot be run so.
        ProcessLost: one of several processes was killed.
    """
    known = (*profile_of(profile).kinds, *profile_of(profile).always)
    for part in without:
        if part.split("#")[0] not in known:
            raise UnknownFault("no run of this profile has such a fault", seen=part, wanted=", ".join(known))
    if nodes is not None:
        check_size(nodes)
    if processes is not None and processes < 1:
        raise BadProcesses("runs need a process", seen=processes, wanted="1 or more")
    report = Report()
    wanted = list(seeds)
    run = partial(run_seed, nodes=nodes, profile=profile, without=frozenset(without))
    for outcome in _outcomes(run, wanted, min(processes or os.cpu_count() or 1, len(wanted))):
        report.add(outcome)
        on_outcome(outcome)
    return report


def _outcomes(run: Callable[[int], Outcome], seeds: list[int], processes: int) -> Iterator[Outcome]:
    if processes <= 1:
        for seed in seeds:
            yield run(seed)
        return
    # New processes, not forks: a fork of a process with threads may wait for a lock that none of its threads holds, and
    # what it holds open of its parent keeps others waiting. An executor, not a Pool, which waits for ever for the dead.
    fresh = multiprocessing.get_context("spawn")
    done = 0
    with ProcessPoolExecutor(processes, mp_context=fresh, initializer=_begin) as executor:
        try:
            for outcome in executor.map(partial(_run_and_collect, run), seeds, chunksize=_SEEDS_A_TASK):
                yield outcome
                done += 1
        except BrokenProcessPool as gone:
            raise ProcessLost(
                "a process that ran seeds is gone, killed or out of memory",
                seen=f"outcomes up to seed {seeds[done - 1]}" if done else "no outcome",
                wanted=f"seeds {seeds[done]} to {seeds[-1]}",
            ) from gone


def _begin() -> None:
    gc.freeze()
    gc.disable()


def _run_and_collect(run: Callable[[int], Outcome], seed: int) -> Outcome:
    """A run, whose cycles are collected at its end: they live as long as it does, so looking before is in vain."""
    outcome = run(seed)
    gc.collect()
    return outcome
