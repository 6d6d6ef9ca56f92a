"""Whatever fails in the rules, wherever it fails: the ledger goes on, nothing is half done, and all replicas agree.

Faults are planted in two ways: a rule does its work and then fails, and the n-th line of the rules that runs fails, for
every n.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import pot_lab.protocol
from pot_lab.crypto.canonical import Record, encode
from pot_lab.crypto.identity import Identity
from pot_lab.errors import InvariantBroken
from pot_lab.protocol import chain_events, epochs, governance, members, signers
from pot_lab.protocol import ledger as rules
from pot_lab.protocol.book import Book, UnsoundState
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.orders import windows
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.transactions import BODIES, Attest, Register, Reply, Transaction, open_transaction
from tests.protocol.scenes import PROVIDERS, RESTING, bring_to, finish, new_world, speech
from tests.protocol.soundness import check_derived, check_locks
from tests.protocol.test_bounds import outside_orders
from tests.protocol.world import POT, WINDOWS, World, key, state_in

RULES = str(Path(pot_lab.protocol.__file__).parent)
MACHINERY = {
    "journal.py": {"*"},
    "ledger.py": {"*"},
    "book.py": {"attempt", "savepoint", "roll_back", "stand", "settle_down", "report", "begin", "faults", "__init__",
                "_follow_again", "_waits", "emit", "check_conservation", "now_ms", "name_members"},
    "order_index.py": {"due", "next_ms"},
    "windows.py": {"close", "close_if_complete", "set_aside", "start_if_funded", "start_waiting"},
    "forgetting.py": {"forget"},
    "governance.py": {"advance", "due_ms", "next_version", "_set_aside", "<genexpr>", "<listcomp>"},
    "epochs.py": {"advance"},
    "chain_events.py": {"advance"},
}  # fmt: skip
"""What carries things out whole or not at all, and is no rule: no fault is planted in it."""
FAULTS: list[type[Exception]] = [
    KeyError, TypeError, OverflowError, AssertionError, InvariantBroken, RuntimeError, NotImplementedError,
]  # fmt: skip
KINDS = [
    (window, kind)
    for window in RESTING
    for kind in TABLE[window].accepts
    if kind != "verdict" or window is Window.JUDGE  # scores that do not differ are disputed there only
]
LONG = msgspec.structs.replace(WINDOWS, train_ms=1_000_000)


class Lines:
    """Counts the different lines of the rules that run, and fails in one of them."""

    def __init__(self, place: int) -> None:
        self.place, self.failed = place, ""
        self._seen: set[tuple[str, int]] = set()

    @contextmanager
    def failing(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if not code.co_filename.startswith(RULES):
            return None
        machinery = MACHINERY.get(Path(code.co_filename).name, set())
        return None if machinery & {"*", code.co_name} else self._line

    def _line(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any] | None:
        where = frame.f_code.co_filename, frame.f_lineno
        if event == "line" and where not in self._seen and not self.failed:
            self._seen.add(where)
            if len(self._seen) == self.place:
                self.failed = f"{Path(where[0]).name}:{where[1]}"
                raise KeyError("planted")
        return self._line


def executed(ledger: Ledger, now_ms: int, transactions: list[Transaction], lines: Lines | None) -> list[Reply]:
    """One batch, with a planted fault or without."""
    if lines is None:
        return ledger.execute(ledger.state.sequence + 1, now_ms, transactions)[0]
    with lines.failing():
        return ledger.execute(ledger.state.sequence + 1, now_ms, transactions)[0]


def from_snapshot(world: World, snapshot: bytes) -> Ledger:
    ledger = Ledger(world.genesis)
    ledger.restore(snapshot)
    return ledger


def check_sound(world: World, ledger: Ledger) -> None:
    """Money, locks and indices are right, and a replica that restarts here agrees with one that goes on."""
    ledger.book.audit()
    check_derived(ledger)
    check_locks(ledger)
    again = from_snapshot(world, ledger.snapshot())
    assert again.due_ms() == ledger.due_ms()
    now_ms = max(ledger.state.time_ms, ledger.due_ms() or 0)
    for each in (again, ledger):
        executed(each, now_ms, [], None)
    world.now_ms = max(world.now_ms, now_ms)
    assert again.state.digest == ledger.state.digest and again.snapshot() == ledger.snapshot()


def unchanged(before: bytes, after: bytes) -> bool:
    """Whether a batch changed nothing but nonces and the batch's own place."""
    states = [state_in(before), state_in(after)]
    for state in states:
        state.sequence, state.time_ms, state.digest = 0, 0, b""
        for account in state.accounts.values():
            account.nonce = 0
    return encode(states[0]) == encode(states[1])


def plant_everywhere(world: World, now_ms: int, transactions: list[Transaction], step: int) -> list[str]:
    """Execute a batch again and again, with a fault in another line each time; returns the lines that failed."""
    snapshot, failed = world.ledger.snapshot(), []
    for place in range(1, 10_000, step):
        replicas = [from_snapshot(world, snapshot) for _ in range(2)]
        answers = []
        for replica in replicas:
            lines = Lines(place)
            answers.append(executed(replica, now_ms, transactions, lines))
        if not lines.failed:
            return failed
        failed.append(lines.failed)
        first, second = replicas
        assert answers[0] == answers[1] and first.state.digest == second.state.digest, lines.failed
        assert first.snapshot() == second.snapshot(), lines.failed
        caught = first.book.faults
        assert caught, f"the fault in {lines.failed} was swallowed"
        for reply in answers[0]:
            assert reply.accepted or reply.code == "UnprocessableTransaction", (lines.failed, reply)
            assert reply.accepted or len(transactions) > 1 or unchanged(snapshot, first.snapshot()), lines.failed
        check_sound(world, first)
    raise AssertionError("it never comes to an end")


def asked(world: World, said: list[tuple[Identity, Record]]) -> list[Transaction]:
    return [open_transaction(world.signed(who, body), world.network_id) for who, body in said]


steps = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.long)], ids=["some", "all"])


@steps
@pytest.mark.parametrize(("window", "kind"), KINDS, ids=[f"{window}-{kind}" for window, kind in KINDS])
def test_a_line_that_fails_in_a_transaction_of_an_order_leaves_nothing_half_done(
    window: Window, kind: str, step: int
) -> None:
    world = new_world()
    order_id = bring_to(world, window, claimed=kind != "withdraw")
    assert len(plant_everywhere(world, world.now_ms, asked(world, [speech(world, order_id, kind)]), step)) * step > 20


@steps
@pytest.mark.parametrize("place", range(15))
def test_a_line_that_fails_in_another_transaction_leaves_nothing_half_done(place: int, step: int) -> None:
    world = new_world()
    who, body = list(outside_orders(world))[place]
    transactions = asked(world, [(who, body)])
    if world.ledger.execute(world.ledger.state.sequence + 1, world.now_ms, transactions)[0][0].accepted:
        world = new_world()
        who, body = list(outside_orders(world))[place]
        assert plant_everywhere(world, world.now_ms, asked(world, [(who, body)]), step)


@steps
@pytest.mark.parametrize("window", [each for each in RESTING if TABLE[each].phase not in (Phase.ENDED,)])
def test_a_line_that_fails_while_a_window_closes_stops_nothing(window: Window, step: int) -> None:
    world = new_world()
    other = world.start(windows=LONG)[0]
    order_id = bring_to(world, window)
    closes_ms = world.order(order_id).closes_ms or world.now_ms + world.parameters.update_ms
    assert world.ledger.due_ms() is not None
    failed = plant_everywhere(world, closes_ms, [], step)
    assert len(failed) * step > 20
    assert world.order(other).window is Window.COMMIT


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("window", "kind"), KINDS, ids=[f"{window}-{kind}" for window, kind in KINDS])
def test_a_handler_that_fails_after_its_work_changes_nothing(
    window: Window, kind: str, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    order_id = bring_to(world, window, claimed=kind != "withdraw")
    handler = rules.HANDLERS[kind]

    def failing(book: Book, account: Any, body: Any) -> bytes:
        handler(book, account, body)
        raise fault("planted")

    monkeypatch.setitem(rules.HANDLERS, kind, failing)
    transactions = asked(world, [speech(world, order_id, kind)])
    before = world.ledger.snapshot()
    (reply,) = executed(world.ledger, world.now_ms, transactions, None)
    assert (reply.accepted, reply.code, reply.seen) == (False, "UnprocessableTransaction", "")
    assert unchanged(before, world.ledger.snapshot())
    assert world.ledger.book.faults[0].where == f"{kind} transaction"
    monkeypatch.undo()
    check_sound(world, world.ledger)
    world.expects_faults = True
    finish(world)
    assert world.order(order_id).void_reason is not VoidReason.FAULT


def failing_after(act: Callable[..., Any], fault: type[BaseException] = KeyError) -> Callable[..., Any]:
    def failing(*arguments: Any, **named: Any) -> Any:
        act(*arguments, **named)
        raise fault("planted")

    return failing


@pytest.mark.parametrize("window", list(windows._CLOSE))
def test_an_order_whose_window_cannot_close_is_set_aside_with_everything_back(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    world.expects_faults = True
    other = world.start(windows=LONG)[0]
    order_id = bring_to(world, window)
    funded = order_id in world.ledger.state.escrows
    monkeypatch.setitem(windows._CLOSE, window, failing_after(windows._CLOSE[window]))
    world.now_ms = world.order(order_id).closes_ms
    world.batch()
    order = world.order(order_id)
    assert (order.window, order.void_reason) == (Window.VOID, VoidReason.FAULT)
    back = order.order.reward_grains + order.order.bond_grains + order.order.fee_grains
    assert sum(payout.grains for payout in order.payouts) == (back if funded else 0)
    assert {payout.account for payout in order.payouts} <= {order.order.client}
    assert order.locked == [] and not order.lost, "nobody loses anything"
    check_locks(world.ledger)
    events = [event for event in world.events if event.order == order_id]
    assert [event.detail["where"] for event in events if event.kind == "fault"] == [f"{window} window"]
    monkeypatch.undo()
    finish(world)
    assert world.order(other).void_reason is VoidReason.NO_CLAIMS, "another order goes its way"
    assert world.ledger.state.pending is None and not world.ledger.state.unsettled
    check_sound(world, world.ledger)


def test_replicas_that_replay_a_fault_agree_and_so_does_one_that_starts_from_a_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = new_world()
    world.expects_faults = True
    bring_to(world, Window.OPEN_SCORES)
    late = from_snapshot(world, world.ledger.snapshot())
    begun = len(world.log)
    monkeypatch.setitem(windows._CLOSE, Window.JUDGE, failing_after(windows._CLOSE[Window.JUDGE]))
    finish(world)
    assert any(event.kind == "fault" for event in world.events)
    for time_ms, requests in world.log[begun:]:
        executed(late, time_ms, [open_transaction(each, world.network_id) for each in requests], None)
    assert late.snapshot() == world.replayed().snapshot() == world.ledger.snapshot()


def test_an_order_that_cannot_even_be_set_aside_waits_for_the_chain_to_refund_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = new_world()
    world.expects_faults = True
    order_id = bring_to(world, Window.REVEAL)
    monkeypatch.setattr(windows, "_give_back", failing_after(windows._give_back))
    monkeypatch.setitem(windows._CLOSE, Window.REVEAL, failing_after(windows._CLOSE[Window.REVEAL]))
    world.now_ms = world.order(order_id).closes_ms
    world.batch()
    order = world.order(order_id)
    assert (order.window, order.void_reason, order.payouts) == (Window.VOID, VoidReason.FAULT, [])
    assert order_id in world.ledger.state.escrows, "the money is where the client can take it back"
    world.ledger.book.audit()
    check_derived(world.ledger)
    again = from_snapshot(world, world.ledger.snapshot())
    assert again.due_ms() == world.ledger.due_ms()


@pytest.mark.parametrize(
    ("module", "name"),
    [(epochs, "_advance"), (members, "lapse"), (members, "let_go"), (members, "carry_out_votes"), (signers, "advance")],
    ids=["epochs", "lapse", "let_go", "carry_out_votes", "signers"],
)
def test_a_duty_of_the_ledger_that_fails_holds_up_nothing_else(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    world.expects_faults = True
    monkeypatch.setattr(module, name, failing_after(getattr(module, name)))
    order_id = bring_to(world, Window.FINALIZATION)
    assert world.order(order_id).winner == PROVIDERS[1].address
    due_ms = world.ledger.due_ms()
    assert due_ms is None or due_ms > world.now_ms, "no batch after batch for what fails"
    monkeypatch.undo()
    finish(world)
    assert world.order(order_id).window is Window.SETTLED, "and it is done as soon as it can be"


@pytest.mark.parametrize(
    ("module", "name"),
    [(epochs, "due_ms"), (members, "due_ms"), (governance, "due_ms"), (governance, "next_version")],
    ids=["next-epoch", "next-members", "next-vote", "next-version"],
)
def test_what_is_asked_between_batches_stops_nothing_where_it_fails(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = new_world()
    world.expects_faults = True
    with monkeypatch.context() as planted:
        planted.setattr(module, name, failing_after(getattr(module, name)))
        order_id = bring_to(world, Window.FINALIZATION)
        assert world.order(order_id).winner == PROVIDERS[1].address
        assert "planted" in world.ledger.faults[-1].traceback
        assert len(world.ledger.faults) <= rules.FAULTS_KEPT
    finish(world)
    assert world.order(order_id).window is Window.SETTLED


@pytest.mark.parametrize("detail", [1 << 80, object(), "\ud800"], ids=["wide", "object", "surrogate"])
def test_an_event_and_a_reply_that_have_no_bytes_stop_nothing(detail: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = rules.HANDLERS["register"]

    def telling(book: Book, account: Any, body: Any) -> Any:
        handler(book, account, body)
        book.emit("told", detail=detail)
        return detail

    monkeypatch.setitem(rules.HANDLERS, "register", telling)
    world = new_world()
    reply = world.submit(key("unlucky"), Register(0))
    assert (reply.accepted, reply.code) == (False, "InsufficientStake"), "what can be said is said"
    assert world.ledger.book.active[Role.PROVIDER] == {each.address for each in PROVIDERS}
    told = [event.detail["where"] for event in world.events if event.kind == "fault"]
    assert told == ["told event"] * 6 and not any(event.kind == "told" for event in world.events)
    assert encode(world.events)
    assert world.replayed().state.digest == world.ledger.state.digest


def test_a_chain_event_that_cannot_be_applied_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    world.expects_faults = True
    apply = chain_events._apply
    monkeypatch.setattr(chain_events, "_apply", failing_after(apply))
    with pytest.raises(AssertionError, match="stake"):
        world.stake(key("unlucky"), Role.PROVIDER)
    monkeypatch.undo()
    assert world.ledger.book.stake(key("unlucky").address, Role.PROVIDER).bonded == 0
    world.stake(key("lucky"), Role.PROVIDER)
    check_sound(world, world.ledger)


def test_a_proposal_that_cannot_be_counted_ends_and_its_bond_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    world.expects_faults = True
    who, body = next(each for each in outside_orders(world) if type(each[1]) is BODIES["propose"])
    world.must(who, body)
    monkeypatch.setattr(governance, "_decide", failing_after(governance._decide))
    world.wait(world.parameters.voting_ms + 1_000)
    assert "fault" in {each.outcome for each in world.ledger.state.governance.ended}
    assert not world.ledger.state.governance.proposals
    check_locks(world.ledger)


@pytest.mark.parametrize("halt", [MemoryError, RecursionError, OSError, KeyboardInterrupt])
def test_what_depends_on_the_host_halts(halt: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setitem(rules.HANDLERS, "register", failing_after(lambda *_: b"", halt))
    with pytest.raises(halt):
        world.submit(PROVIDERS[0], Register(0))
    monkeypatch.undo()
    world = new_world()
    order_id = bring_to(world, Window.REVEAL)
    monkeypatch.setitem(windows._CLOSE, Window.REVEAL, failing_after(lambda *_: None, halt))
    world.now_ms = world.order(order_id).closes_ms
    with pytest.raises(halt):
        world.batch()


def test_a_handler_that_makes_money_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def minting(book: Book, account: bytes, body: Any) -> bytes:
        book.state.deposited_grains += POT
        return b""

    monkeypatch.setitem(rules.HANDLERS, "register", minting)
    world = World()
    world.expects_faults = True
    assert world.submit(PROVIDERS[0], Register(0)).code == "UnprocessableTransaction"
    assert world.ledger.state.deposited_grains == 0


def test_a_state_whose_money_is_wrong_halts_at_the_next_batch() -> None:
    world = new_world()
    world.ledger.state.deposited_grains += POT
    with pytest.raises(InvariantBroken, match="money is not conserved"):
        world.submit(PROVIDERS[0], Register(1))


def test_a_change_that_cannot_be_taken_back_halts(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world()
    handler = rules.HANDLERS["unregister"]
    monkeypatch.setitem(rules.HANDLERS, "unregister", failing_after(handler))
    monkeypatch.setattr(Book, "name_members", failing_after(lambda self: None))
    who, body = next(each for each in outside_orders(world) if type(each[1]) is BODIES["unregister"])
    with pytest.raises(UnsoundState, match="taken back"):
        world.submit(who, body)


def test_all_transactions_are_covered() -> None:
    world = new_world()
    kinds = {type(body) for _, body in outside_orders(world)} | {BODIES[kind] for _, kind in KINDS} | {Attest}
    assert kinds == set(BODIES.values())
