"""What a training does with its time: when it must end, when a look is due, and how many examples a step may have.

Estimates come from the training's own steps, looks and reports. Looks take at most a tenth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pot_lab.errors import InvariantBroken

LOOK_SHARE = 0.1
"""At most this part of the time goes into looks at the held-out part."""
FIRST_LOOK_SHARE = 0.02
LONGEST_UNSEEN_SHARE = 0.05
"""After this part of the window a look is due, though the epoch is not over."""
STEPS_IN_WINDOW = 150
"""A batch whose size was left open is small enough for about so many steps."""
USUAL_BATCH = 64
PROBED_ROWS = 4
"""So many examples go through at once while nothing is known of how long they take."""
PART_SHARE = 0.04
"""Examples that go through at once take at most this part of the window."""
SIZING_STEPS = 10
"""So many steps may change the size of the batch."""
_SAFETY = 1.5


@dataclass(kw_only=True)
class Pace:
    """The clock of one call of `train_until`.

    Attributes:
        clock: monotonic seconds.
        started: when the call began, on that clock.
        deadline: when it must have ended; None without one.
        last_step: the number of the last step; None where time decides.
        last_looks: how many looks the end needs.
        elapsed_before_s: what earlier runs of the job took.
        step_s, row_s, look_s, report_s: what a step, an example of it, a look, and the report of a better model take,
            estimated, in seconds.
        looked_at: when the last look was over.
        looked_step: after which step.
        steps: of this call.
    """

    clock: Callable[[], float]
    started: float
    deadline: float | None
    last_step: int | None
    elapsed_before_s: float
    last_looks: int = 1
    step_s: float = 0.0
    row_s: float = 0.0
    look_s: float = 0.0
    report_s: float = 0.0
    looked_at: float = 0.0
    looked_step: int = -1
    steps: int = 0

    @property
    def window_s(self) -> float | None:
        """From the beginning to the deadline, in seconds; None without a deadline."""
        return None if self.deadline is None else self.deadline - self.started

    @property
    def reserve_s(self) -> float:
        """What the last looks and the last report need."""
        return _SAFETY * (self.last_looks * self.look_s + self.report_s)

    def elapsed_s(self) -> float:
        """Seconds of training over all runs."""
        return self.elapsed_before_s + self.clock() - self.started

    @property
    def mean_step_s(self) -> float:
        """How long a step took on average, looks and all, in seconds."""
        return (self.clock() - self.started) / max(1, self.steps)

    def fraction(self, step: int) -> float:
        """How much of the training is over: of its steps where their number is known, else of its time."""
        if self.last_step is not None:
            return step / self.last_step
        if self.deadline is None:
            raise InvariantBroken("a training has neither a last step nor a deadline")
        return self.elapsed_s() / max(self.elapsed_before_s + self.deadline - self.reserve_s - self.started, 1e-9)

    def must_end(self) -> bool:
        """Whether another step would come too late."""
        return self.deadline is not None and (self.clock() + _SAFETY * self.step_s + self.reserve_s >= self.deadline)

    def must_cut(self, began: float, done: int, coming: int, usual_s: float) -> bool:
        """Whether a step shall end after `done` examples: another part would come too late, or it takes much longer
        than meant.

        Args:
            began: when the step began.
            done: examples so far.
            coming: examples of the next part.
            usual_s: what the step should take; infinite where its size is fixed.
        """
        if self.deadline is None:
            return False
        now = self.clock()
        part_s = coming * (now - began) / done
        return now - began > 2 * usual_s or now + _SAFETY * part_s + self.reserve_s >= self.deadline

    def out_of_time(self) -> bool:
        """Whether the deadline has come."""
        return self.deadline is not None and self.clock() + _SAFETY * self.report_s >= self.deadline

    def after_step(self, began: float, rows: int) -> None:
        """Learn from a step of `rows` examples."""
        took = self.clock() - began
        self.steps += 1
        self.step_s = max(took, 0.9 * self.step_s)
        self.row_s = took / rows if not self.row_s else min(self.row_s, took / rows)

    def after_look(self, began: float, step: int) -> None:
        """Learn from a look."""
        now = self.clock()
        self.look_s = max(now - began, 0.9 * self.look_s)
        self.looked_at, self.looked_step = now, step

    def look_is_due(self, step: int, every: int | None, steps_per_epoch: int) -> bool:
        """Whether to look at the held-out part after this step.

        Without a deadline that is each `every` steps, or at the end of each epoch. With one, a share of the time is
        the bound, and what is not seen for long is looked at before its epoch ends.
        """
        due = (
            step - self.looked_step >= (every or steps_per_epoch)
            if self.deadline
            else step % (every or steps_per_epoch) == 0
        )
        if self.window_s is None:
            return due
        since_s = self.clock() - self.looked_at
        if since_s < self.look_s * (1 / LOOK_SHARE - 1):
            return False
        return due or (every is None and since_s >= LONGEST_UNSEEN_SHARE * self.window_s)

    def most_at_once(self) -> int | None:
        """How many examples may go through without a look at the clock; None for any number."""
        if self.window_s is None:
            return None
        if not self.row_s:
            return PROBED_ROWS
        return max(1, int(PART_SHARE * self.window_s / self.row_s))

    def batch_for(self, most: int, least: int) -> int:
        """How many examples a step shall have, so that the window has enough steps."""
        if self.window_s is None or not self.row_s:
            return most
        return max(min(most, int(self.window_s / STEPS_IN_WINDOW / self.row_s)), min(most, least))
