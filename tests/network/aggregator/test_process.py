"""What an aggregator holds ends with it, however it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import pytest

from pot_lab.errors import PotLabError
from pot_lab.judging import HelperLimits, JudgeBody, JudgeHelper, JudgePool, start_helper
from pot_lab.judging.process import HelperProcess
from pot_lab.network.aggregator.process import Aggregator
from pot_lab.network.duties.judge import JudgeDuty, WantedJudgement
from tests.judging.cases import make_case
from tests.network.toy import Toy, ToyNetwork


class Judging:
    """An aggregator with a real helper, on a thread."""

    def __init__(self, folder: Path) -> None:
        network = ToyNetwork(folder)
        self.wanted: dict[bytes, WantedJudgement] = {}
        self.started: list[HelperProcess] = []
        self.voted = threading.Event()
        pool = JudgePool([JudgeHelper(self.start, HelperLimits(wall_s=600.0, start_s=600.0))], on_done=self.wake)
        duty = JudgeDuty(lambda: self.wanted, self.vote, pool)
        self.aggregator = Aggregator(
            network.config, 0, network.identities[0], network.keys[0].secret, Toy(), [duty], folder / "data"
        )
        self.ended_by: list[BaseException] = []
        self.thread = threading.Thread(target=self.run)

    def start(self, limits: HelperLimits) -> HelperProcess:
        self.started.append(start_helper(limits))
        return self.started[-1]

    def wake(self) -> None:
        self.aggregator.wake()

    def vote(self, name: bytes, found: object) -> bytes:
        self.voted.set()
        return b"no toy request"

    def run(self) -> None:
        try:
            self.aggregator.run()
        except BaseException as error:
            self.ended_by.append(error)

    def want(self, body: JudgeBody) -> None:
        self.wanted = {b"question": WantedJudgement(body)}


@pytest.fixture
def judging(tmp_path: Path) -> Judging:
    return Judging(tmp_path)


def test_helpers_end_when_the_aggregator_is_stopped(judging: Judging, tmp_path: Path) -> None:
    judging.want(make_case(tmp_path / "case").model())
    judging.thread.start()
    assert judging.voted.wait(300)
    assert psutil.pid_exists(judging.started[0].pid)
    judging.aggregator.stop()
    judging.thread.join()
    assert judging.ended_by == [] and not psutil.pid_exists(judging.started[0].pid)


def test_helpers_end_when_the_aggregator_fails(
    judging: Judging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judging.want(make_case(tmp_path / "case").model())
    judging.thread.start()
    assert judging.voted.wait(300)

    def fails(now_ms: int, *, woken: bool) -> list[bytes]:
        raise PotLabError("a full disk")

    monkeypatch.setattr(judging.aggregator._duties, "poll", fails)
    judging.aggregator.wake()
    judging.thread.join()
    assert len(judging.ended_by) == 1 and not psutil.pid_exists(judging.started[0].pid)
