"""The history checker passes good runs and catches every planted bad one, by the rule that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pot_lab.agreement.application import Batch
from pot_lab.crypto.identity import Identity
from tests.chaos.history_checker import BadHistory, ClientLog, Executed, Operation, Read, Verdict, check, read_log
from tests.network.toy import Toy, toy_request

Histories = dict[int, list[Executed]]


class Run:
    """A made-up run of three clients on four aggregators; everything about it is right."""

    def __init__(self, seed: int = 1, operations: int = 60) -> None:
        random = Random(seed)
        accounts = [Identity((b"account %d" % i).ljust(32, b"\1")) for i in range(3)]
        self.operations: list[Operation] = []
        self.reads: list[Read] = []
        toy, rows, now_ns, nonce = Toy(), [], 1_000, 0
        for sequence in range(1, operations // 3 + 1):
            requests, invoked = [], []
            for account in random.sample(range(3), random.randint(1, 3)):
                nonce += 1
                now_ns += random.randint(1, 50)
                requests.append((f"client {account}", toy_request(accounts[account], nonce)))
                invoked.append(now_ns)
            row = Executed(
                sequence=sequence, time_ms=5_000 + 10 * sequence, requests=tuple(request for _, request in requests)
            )
            rows.append(row)
            replies = toy.execute(Batch(row.sequence, row.time_ms, row.requests)).replies
            for (client, request), at_ns, reply in zip(requests, invoked, replies, strict=True):
                now_ns += random.randint(1, 50)
                self.operations.append(Operation(client, request, at_ns, now_ns, row.sequence, row.time_ms, reply))
            if random.random() < 0.5:
                self.reads.append(Read("client 0", now_ns + 1, now_ns + 9, sequence))
                now_ns += 10
        self.histories: Histories = {index: list(rows) for index in range(4)}

    def check(self, **options: object) -> Verdict:
        return check(self.operations, self.reads, self.histories, application=Toy(), **options)  # type: ignore[arg-type]


def last(run: Run) -> int:
    return len(run.histories[0])


def everywhere(run: Run, sequence: int, change: Callable[[Executed], Executed]) -> None:
    for rows in run.histories.values():
        rows[sequence - 1] = change(rows[sequence - 1])


def test_good_runs_pass() -> None:
    for seed in range(5):
        run = Run(seed)
        verdict = run.check()
        assert verdict.acknowledged == verdict.operations == verdict.executed == len(run.operations)
        assert verdict.batches == 20 and verdict.reads == len(run.reads) > 0


def test_what_was_not_acknowledged_may_run_or_not() -> None:
    run = Run()
    open_ = run.operations[-1]
    run.operations[-1] = open_._replace(acknowledged_ns=0, sequence=0, time_ms=0, reply=b"")
    run.operations.append(open_._replace(request=b"never ran", acknowledged_ns=0, sequence=0))
    assert run.check().acknowledged == len(run.operations) - 2


def lose(run: Run) -> None:
    victim = run.operations[-1].request
    everywhere(run, last(run), lambda row: row._replace(requests=tuple(r for r in row.requests if r != victim)))


def lose_the_last_batch_everywhere(run: Run) -> None:
    for rows in run.histories.values():
        rows.pop()


def run_twice(run: Run) -> None:
    again = run.histories[0][2].requests[0]
    everywhere(run, last(run), lambda row: row._replace(requests=(*row.requests, again)))


def run_twice_in_one_batch(run: Run) -> None:
    everywhere(run, last(run), lambda row: row._replace(requests=(*row.requests, row.requests[-1])))


def differ_in_order(run: Run) -> None:
    wide = next(row for row in run.histories[0] if len(row.requests) > 1)
    run.histories[2][wide.sequence - 1] = wide._replace(requests=wide.requests[::-1])


def differ_in_time(run: Run) -> None:
    row = run.histories[3][4]
    run.histories[3][4] = row._replace(time_ms=row.time_ms + 1)


def leave_a_hole(run: Run) -> None:
    del run.histories[1][7]


def leave_a_hole_that_nobody_fills(run: Run) -> None:
    for rows in run.histories.values():
        del rows[7]


def go_back_in_the_file(run: Run) -> None:
    run.histories[1][8] = run.histories[1][7]


def fall_behind(run: Run) -> None:
    del run.histories[3][-2:]


def invent(run: Run) -> None:
    everywhere(run, last(run), lambda row: row._replace(requests=(*row.requests, b"from nowhere")))


def tell_another_batch(run: Run) -> None:
    run.operations[3] = run.operations[3]._replace(sequence=run.operations[3].sequence + 1)


def tell_another_time(run: Run) -> None:
    run.operations[3] = run.operations[3]._replace(time_ms=1)


def overtake(run: Run) -> None:
    """The last operation is invoked only after everything else was acknowledged, and runs in the first batch."""
    late = run.operations[-1]
    lose(run)
    everywhere(run, 1, lambda row: row._replace(requests=(*row.requests, late.request)))
    first = run.histories[0][0]
    run.operations[-1] = late._replace(
        invoked_ns=max(each.acknowledged_ns for each in run.operations[:-1]) + 1,
        acknowledged_ns=late.acknowledged_ns + 10_000,
        sequence=1,
        time_ms=first.time_ms,
    )


def overtake_unacknowledged(run: Run) -> None:
    overtake(run)
    run.operations[-1] = run.operations[-1]._replace(acknowledged_ns=0, sequence=0)


def turn_time_back(run: Run) -> None:
    everywhere(run, 9, lambda row: row._replace(time_ms=row.time_ms - 1_000))
    run.operations = [
        each._replace(time_ms=each.time_ms - 1_000) if each.sequence == 9 else each for each in run.operations
    ]


def lie_in_a_reply(run: Run) -> None:
    run.operations[5] = run.operations[5]._replace(reply=b"1000")


def read_back(run: Run) -> None:
    run.reads[-1] = run.reads[-1]._replace(height=run.reads[0].height)


def read_behind_an_own_write(run: Run) -> None:
    mine = [each for each in run.operations if each.client == "client 0"][-1]
    end_ns = mine.acknowledged_ns
    run.reads = [Read("client 0", end_ns + 1, end_ns + 5, mine.sequence - 1)]


def read_ahead(run: Run) -> None:
    run.reads[-1] = run.reads[-1]._replace(height=last(run) + 1)


def read_the_future(run: Run) -> None:
    run.reads = [Read("client 0", 1, 2, last(run))]


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (lose, "lost"),
        (lose_the_last_batch_everywhere, "lost"),
        (run_twice, "twice"),
        (run_twice_in_one_batch, "twice"),
        (differ_in_order, "order"),
        (differ_in_time, "order"),
        (leave_a_hole, "gap"),
        (leave_a_hole_that_nobody_fills, "gap"),
        (go_back_in_the_file, "order"),
        (fall_behind, "behind"),
        (invent, "invented"),
        (tell_another_batch, "moved"),
        (tell_another_time, "moved"),
        (overtake, "real time"),
        (overtake_unacknowledged, "real time"),
        (turn_time_back, "time"),
        (lie_in_a_reply, "reply"),
        (read_back, "read"),
        (read_behind_an_own_write, "read"),
        (read_ahead, "read"),
        (read_the_future, "read"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_planted_fault_is_caught_by_its_rule(plant: Callable[[Run], None], rule: str, seed: int) -> None:
    run = Run(seed)
    plant(run)
    with pytest.raises(BadHistory) as caught:
        run.check()
    assert caught.value.rule == rule


def test_a_snapshot_may_step_over_batches_and_a_stopped_aggregator_may_end_early() -> None:
    run = Run()
    leave_a_hole(run)
    assert run.check(may_have_gaps={1}).batches == last(run)
    fall_behind(run)
    assert run.check(may_have_gaps={1}, must_be_whole={0, 1, 2}).batches == last(run)


def test_requests_of_others_are_known_when_they_are_named() -> None:
    run = Run()
    others = [toy_request(Identity.generate(), 1)]
    everywhere(run, last(run), lambda row: row._replace(requests=(*row.requests, *others)))
    assert run.check(others=others).executed == len(run.operations) + 1


def test_a_log_says_what_was_written_to_it_even_if_its_end_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "client 7.jsonl"
    log = ClientLog(path)
    log.invoked(b"a", 1)
    log.invoked(b"b", 2)
    log.acknowledged(b"a", 3, 9, 1_000, b"yes")
    log.read(4, 5, 9)
    log.close()
    with open(path, "a") as file:
        file.write('{"acknowledged": "62", "at"')
    operations, reads = read_log(path)
    assert operations == [Operation("client 7", b"a", 1, 3, 9, 1_000, b"yes"), Operation("client 7", b"b", 2)]
    assert reads == [Read("client 7", 4, 5, 9)]
