"""What one run showed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Outcome:
    """What one run showed.

    Attributes:
        violation: the rule that was violated, if one was.
        stuck: what was still missing at the end, if anything was.
        digest: of the whole trace; equal for every run of this seed.
        trace: the run in words, where it failed.
        without, parts: of the faults, those that were left out and all that were drawn, by name.
        snapshots: how often an aggregator took a whole snapshot from another.
    """

    seed: int
    nodes: int
    profile: str
    without: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    snapshots: int = 0
    events: int = 0
    batches: int = 0
    answered: int = 0
    view_changes: int = 0
    catch_ups: int = 0
    virtual_ms: int = 0
    settled: int = 0
    violation: str | None = None
    stuck: str | None = None
    digest: str = ""
    trace: str = ""
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def is_good(self) -> bool:
        """Whether everything held."""
        return self.violation is None and self.stuck is None

    @property
    def replay(self) -> str:
        """The command that runs it again."""
        without = "".join(f" --without {part}" for part in self.without)
        seeds = f"{self.seed}..{self.seed}"
        return f"pot-lab simulate --seeds {seeds} --nodes {self.nodes} --profile {self.profile}{without}"

    @property
    def rule(self) -> str:
        """What was broken: the name of a checker's rule, "stuck", or nothing."""
        return self.violation.split(":")[0] if self.violation else "stuck" if self.stuck else ""
