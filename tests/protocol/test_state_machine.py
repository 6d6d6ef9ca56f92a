"""Random people do random things at random times, rightly and wrongly; the ledger keeps every promise that it makes.

Invariants after every batch: money is conserved and every entry adds up, every order has a deadline or waits for the
chain, and stakes are locked for live orders only. At the end: every order has ended with a reason, and a second ledger
that replays the same batches has the same bytes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from pot_lab.crypto.identity import Identity
from pot_lab.protocol.cycle import TABLE, Phase, VoidReason, Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import Parameters, Role
from pot_lab.protocol.proposals import change
from pot_lab.protocol.records import ChainEvent, OrderRecord, Windows, opening_name
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.transactions import (
    Attest,
    Claim,
    Propose,
    Put,
    Register,
    ReleaseKey,
    ReleaseShare,
    Unregister,
    Verdict,
    Vote,
    Withdraw,
)
from tests.protocol.scenes import finish
from tests.protocol.soundness import check_derived, check_locks
from tests.protocol.world import POT, World, key

PEOPLE = [key(f"person {i}") for i in range(8)]
MODELS = ["red", "green", "blue"]
people = st.sampled_from(PEOPLE)
roles = st.sampled_from([Role.PROVIDER, Role.VALIDATOR])
models = st.sampled_from(MODELS)
some = st.integers(0, 1 << 16)
SHORT = Windows(
    train_ms=3_000,
    reveal_ms=1_000,
    release_ms=1_000,
    score_ms=1_000,
    open_scores_ms=1_000,
    challenge_ms=1_000,
    open_challenges_ms=1_000,
    judge_ms=1_000,
)
PARAMETERS = Parameters(
    update_ms=2_000, pool_ms=5_000, settlement_timeout_ms=4_000, retention_ms=20_000, seats_per_order=5,
    min_validators=3,
    max_live_orders_per_account=3, treasury=key("treasury").address,
    voting_ms=4_000, timelock_ms=2_000, proposal_bond_grains=POT, quorum_bp=3_334, majority_bp=5_001,
)  # fmt: skip


CHANGES: list[dict[str, Any]] = [
    {"update_ms": 3_000},
    {"update_ms": 6_000, "settlement_timeout_ms": 8_000},
    {"winner_bp": 7_000, "validators_bp": 2_500},
    {"winner_bp": 8_500, "validators_bp": 1_000},
    {"min_validators": 4},
    {"client_bond_bp": 5_000},
    {"max_live_orders_per_account": 2, "seats_per_order": 7},
    {"min_stake_grains": (12 * POT, 24 * POT, 5 * POT, 100 * POT)},
    {"pool_ms": 3_000, "retention_ms": 9_000},
    {"voting_ms": 3_000, "timelock_ms": 1_000, "proposal_bond_grains": 2 * POT},
]
"""What people propose: some of it does not go together, and some ends registrations or orders that wait."""
OUTCOMES: Counter[str] = Counter()
"""How proposals ended in all runs."""
ENDS: Counter[str] = Counter()
"""How orders ended in all runs, to see that the market sees the whole cycle."""


OPENED: Counter[bool] = Counter()
"""Verdicts on opened test data and models that were taken in all runs."""
VERDICTS: Counter[bool] = Counter()
"""Verdicts that were given in all runs."""


class Market(RuleBasedStateMachine):
    """A world in which hypothesis chooses what happens next."""

    @initialize()
    def open_market(self) -> None:
        self.world = World(parameters=PARAMETERS)
        self.orders: list[OrderRecord] = []
        self.escrowed: set[bytes] = set()
        self.ended: dict[bytes, Window] = {}
        for role, persons in ((Role.PROVIDER, PEOPLE[:4]), (Role.VALIDATOR, PEOPLE[2:])):
            for person in persons:
                self.world.stake(person, role, 25 * POT)

    # --- helpers ---------------------------------------------------------------------------------------------------
    def pick(self, number: int, *windows: Window) -> bytes | None:
        """An order, in one of these windows if there is one."""
        state = self.world.ledger.state
        fitting = [order_id for order_id, order in state.orders.items() if order.window in windows]
        all_ids = fitting or [order.id for order in self.orders]
        return all_ids[number % len(all_ids)] if all_ids else None

    def knows(self, order_id: bytes | None) -> bool:
        return order_id in self.world.ledger.state.orders

    # --- people ----------------------------------------------------------------------------------------------------
    @rule(client=people, reward=st.integers(10**7, 30 * POT), fee=st.integers(10**7, POT), base=st.integers(0, 120))
    def order(self, client: Identity, reward: int, fee: int, base: int) -> None:
        order = self.world.new_order(
            nonce=len(self.orders) + 1, client=client.address, reward_grains=reward, fee_grains=fee, windows=SHORT,
            baseline_total=base, baseline_count=100 if base else 0,
        )  # fmt: skip
        self.orders.append(order)
        self.world.submit(client, Put(order))

    @rule(client=people, reward=st.integers(POT, 9 * POT))
    def place(self, client: Identity, reward: int) -> None:
        self.order(client, reward, POT, 0)
        self.fund(len(self.orders) - 1, 0)

    @rule(number=some, off=st.sampled_from([0, 0, 0, 1]))
    def fund(self, number: int, off: int) -> None:
        if self.orders:
            order = self.orders[number % len(self.orders)]
            if order.id not in self.escrowed:
                self.escrowed.add(order.id)
                detail = (order.fee_grains + off, order.bond_grains, order.seal_by_s, order.nonce)
                self.world.chain(
                    ChainEvent(
                        kind="order_placed",
                        block=2,
                        log_index=0,
                        account=order.client,
                        role=-1,
                        amount_grains=order.reward_grains,
                        subject=order.id,
                        detail=detail,
                    )
                )

    @rule(number=some)
    def refund(self, number: int) -> None:
        state = self.world.ledger.state
        # The chain refunds what it has not sealed: never what a confirmed epoch named.
        open_ids = sorted(set(state.escrows) | set(state.unsettled))
        if open_ids and number % 4 == 0:
            order_id = open_ids[number % len(open_ids)]
            client = next(order.client for order in self.orders if order.id == order_id)
            self.world.chain(
                ChainEvent(
                    kind="order_refunded",
                    block=9,
                    log_index=0,
                    account=client,
                    role=-1,
                    amount_grains=1,
                    subject=order_id,
                    detail=(),
                )
            )

    @rule(who=people, number=some)
    def withdraw(self, who: Identity, number: int) -> None:
        order_id = self.pick(number, Window.WAITING)
        if order_id and number % 3 == 0:
            self.world.submit(who, Withdraw(order_id))

    @rule(who=people, number=some, model=models)
    def claim(self, who: Identity, number: int, model: str) -> None:
        order_id = self.pick(number, Window.COMMIT)
        if self.knows(order_id):
            self.world.claim(order_id, who, model)

    @rule(number=some, count=st.integers(1, 4))
    def claims_of_many(self, number: int, count: int) -> None:
        order_id = self.pick(number, Window.COMMIT)
        if self.knows(order_id):
            self._claim(order_id, count)

    def _claim(self, order_id: bytes, count: int) -> None:
        for person, model in zip(PEOPLE[:count], MODELS * 2, strict=False):
            if self.knows(order_id):
                self.world.claim(order_id, person, model)

    @rule(who=people, number=some)
    def claim_nonsense(self, who: Identity, number: int) -> None:
        order_id = self.pick(number, Window.COMMIT)
        if order_id:
            self.world.submit(who, Claim(order_id, bytes([number % 256]) * 32))

    @rule(number=some, leave_out=st.integers(0, 9))
    def reveals(self, number: int, leave_out: int) -> None:
        order_id = self.pick(number, Window.REVEAL)
        if self.knows(order_id):
            self._reveal(order_id, leave_out)

    def _reveal(self, order_id: bytes, leave_out: int) -> None:
        for i, person in enumerate(PEOPLE):
            for model in MODELS:
                if i != leave_out and self.knows(order_id):
                    self.world.reveal(order_id, person, model)

    @rule(number=some, who=st.integers(0, 3), whole=st.booleans())
    def release(self, number: int, who: int, whole: bool) -> None:
        order_id = self.pick(number, Window.RELEASE)
        if order_id and whole:
            client = next(
                (p for p in PEOPLE if self.knows(order_id) and p.address == self.world.order(order_id).order.client),
                PEOPLE[0],
            )
            self.world.submit(client, ReleaseKey(order_id, self.world.keys[order_id]))
        elif order_id:
            self.world.submit(self.world.aggregators[who], ReleaseShare(order_id, self.world.shares[order_id][who]))

    @rule(number=some, who=st.integers(0, 3), wrong=st.integers(0, 9), models=st.booleans())
    def opens(self, number: int, who: int, wrong: int, models: bool) -> None:
        """An aggregator releases its shares of the models' keys, or says what it found in one that is open."""
        order_id = self.pick(number, Window.RELEASE)
        if self.knows(order_id):
            self._open(order_id, [who], wrong, models=models)

    def _open(self, order_id: bytes, who: list[int], wrong: int, *, models: bool = True) -> None:
        for place in who:
            if models and self.knows(order_id) and (shares := self.world.model_shares(order_id, place)).items:
                self.world.submit(self.world.aggregators[place], shares)
        mids = [each.mid for each in self.world.order(order_id).claims.values() if each.mid]
        for number, mid in enumerate([b"", *mids]):
            for place in who:
                right = number != wrong
                name = opening_name(self.world.network_id, order_id, mid)
                OPENED[right] += self.world.submit(
                    self.world.aggregators[place], Verdict(order_id, name, right)
                ).accepted

    @rule(number=some, leave_out=st.integers(0, 9), liar=st.integers(0, 9))
    def scores(self, number: int, leave_out: int, liar: int) -> None:
        order_id = self.pick(number, Window.SCORE)
        if self.knows(order_id):
            self._score(self.world.commit_scores, order_id, leave_out, liar)

    @rule(number=some, leave_out=st.integers(0, 9), liar=st.integers(0, 9))
    def openings(self, number: int, leave_out: int, liar: int) -> None:
        order_id = self.pick(number, Window.OPEN_SCORES)
        if self.knows(order_id):
            self._score(self.world.open_scores, order_id, leave_out, liar)

    def _score(self, act: Any, order_id: bytes, leave_out: int, liar: int) -> None:
        for i, person in enumerate(PEOPLE):
            if not self.knows(order_id):
                return
            mids = self.world.assigned(order_id, person)
            known = {self.world.mid(order_id, model): model for model in MODELS}
            scores = {known[mid]: 70 + 10 * MODELS.index(known[mid]) + (i == liar) for mid in mids}
            if scores and i != leave_out:
                act(order_id, person, scores)

    @rule(number=some, who=people, liar=st.integers(0, 9), index=st.sampled_from([0, 70, 90, 99]), shown=st.booleans())
    def challenges(self, number: int, who: Identity, liar: int, index: int, shown: bool) -> None:
        order_id = self.pick(number, Window.CHALLENGE, Window.OPEN_CHALLENGES)
        if order_id is not None and self.knows(order_id):
            self._challenge(order_id, who, liar, index, shown)

    def _challenge(self, order_id: bytes, who: Identity, liar: int, index: int, shown: bool) -> None:
        """Somebody challenges a validator's score, rightly or not, and shows the leaf or not."""
        order = self.world.order(order_id)
        opened = [each for each in order.validations if each.score is not None]
        if not opened:
            return
        validation = opened[liar % len(opened)]
        validator = next(person for person in PEOPLE if person.address == validation.validator)
        model = next(each for each in MODELS if self.world.mid(order_id, each) == validation.mid)
        if order.window is Window.CHALLENGE:
            role = Role.VALIDATOR if who in PEOPLE[2:] else Role.PROVIDER
            self.world.submit(who, self.world.challenge(order_id, who, validator, model, index, role))
        if shown and validation.score is not None:
            total = validation.score.total
            self.world.submit(who, self.world.open_challenge(order_id, validator, model, total, index))

    @rule(number=some, wrong=st.integers(0, 3), count=st.integers(1, 4))
    def verdicts(self, number: int, wrong: int, count: int) -> None:
        order_id = self.pick(number, Window.CHALLENGE, Window.OPEN_CHALLENGES, Window.JUDGE)
        if order_id is not None:
            self._judge(order_id, wrong, count)

    def _judge(self, order_id: bytes, wrong: int, count: int) -> None:
        """Aggregators judge the open disputes alike, but for one of them sometimes."""
        for place, aggregator in enumerate(self.world.aggregators[:count]):
            for dispute in list(self.world.order(order_id).disputes) if self.knows(order_id) else []:
                right = dispute.score.total % 10 == 0 and not dispute.challenger
                VERDICTS[right] += 1
                self.world.submit(aggregator, Verdict(order_id, dispute.name, right is not (place == wrong)))

    @rule(number=some, steps=st.integers(1, 12), leave_out=st.integers(0, 9), liar=st.sampled_from([2, 3, 4, 5, 9]))
    def carry_on(self, number: int, steps: int, leave_out: int, liar: int) -> None:
        """One order goes on as it should, or nearly."""
        state = self.world.ledger.state
        live = [i for i, order in state.orders.items() if TABLE[order.window].phase is not Phase.ENDED]
        if not live:
            return
        order_id = live[number % len(live)]
        for _ in range(steps):
            match self.world.order(order_id).window if self.knows(order_id) else None:
                case Window.WAITING:
                    self.fund(next(i for i, order in enumerate(self.orders) if order.id == order_id), 0)
                case Window.COMMIT:
                    self._claim(order_id, 1 + number % 4)
                    self.world.now_ms = max(self.world.now_ms, self.world.order(order_id).closes_ms)
                    self.world.batch()
                case Window.REVEAL:
                    self._reveal(order_id, leave_out)
                case Window.RELEASE:
                    for share, aggregator in zip(self.world.shares[order_id], self.world.aggregators[:3], strict=False):
                        self.world.submit(aggregator, ReleaseShare(order_id, share))
                    if number % 8 == 1:  # nobody judges
                        self.next_deadline()
                        continue
                    wrong = {2: 1, 3: 0}.get(number % 4, 9)  # a model, the test data, or nothing
                    self._open(order_id, [0, 1, 2], wrong, models=False)
                    if self.knows(order_id):
                        self._open(order_id, [0, 1, 2], wrong)
                case Window.SCORE:
                    self._score(self.world.commit_scores, order_id, leave_out, liar)
                case Window.OPEN_SCORES:
                    self._score(self.world.open_scores, order_id, leave_out, liar)
                case Window.CHALLENGE:
                    self._challenge(order_id, PEOPLE[liar % 8], leave_out, 90, leave_out > 5)
                    self._judge(order_id, liar, leave_out % 4)
                    self.next_deadline()
                case Window.OPEN_CHALLENGES:
                    self._challenge(order_id, PEOPLE[liar % 8], leave_out, 90, True)
                    self.next_deadline()
                case Window.JUDGE:
                    self._judge(order_id, liar, 4)
                    self.next_deadline()
                case _:
                    self.next_deadline()

    @rule(number=st.integers(0, 15), liar=st.sampled_from([2, 3, 4, 5, 9]))
    def goes_through(self, number: int, liar: int) -> None:
        """One order goes on as far as it can, but for what is wrong with it by its number."""
        self.carry_on(number, 12, 9, liar)

    # --- members ---------------------------------------------------------------------------------------------------
    @rule(who=people, role=roles, grains=st.integers(1, 30 * POT), number=some)
    def stakes(self, who: Identity, role: Role, grains: int, number: int) -> None:
        self.world.chain(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=who.address,
                role=int(role),
                amount_grains=grains,
                subject=b"",
                detail=(grains,),
            )
        )
        self.world.submit(who, Register(int(role)))

    @rule(
        who=people,
        role=roles,
        grains=st.integers(1, 60 * POT),
        kind=st.sampled_from(["unstake_requested", "withdrawn"]),
    )
    def unstakes(self, who: Identity, role: Role, grains: int, kind: str) -> None:
        detail = (0, 9) if kind == "unstake_requested" else ()
        self.world.chain(
            ChainEvent(
                kind=kind,
                block=1,
                log_index=0,
                account=who.address,
                role=int(role),
                amount_grains=grains,
                subject=b"",
                detail=detail,
            )
        )

    @rule(who=people, role=roles, leave=st.booleans())
    def registers(self, who: Identity, role: Role, leave: bool) -> None:
        self.world.submit(who, Unregister(int(role)) if leave else Register(int(role)))

    @rule(who=people, role=roles, number=some, ayes=st.integers(0, 8), noes=st.integers(0, 8), at_once=st.booleans())
    def proposes(self, who: Identity, role: Role, number: int, ayes: int, noes: int, at_once: bool) -> None:
        values = CHANGES[number % len(CHANGES)]
        changes = tuple(change(name, value) for name, value in values.items())
        reply = self.world.submit(who, Propose(int(role), changes))
        if reply.accepted and at_once:
            self.votes(int.from_bytes(reply.result, "big"), ayes, noes)

    @rule(number=some, ayes=st.integers(0, 8), noes=st.integers(0, 8))
    def votes(self, number: int, ayes: int, noes: int) -> None:
        proposals = sorted(self.world.ledger.state.governance.proposals) or [number]
        chosen = number if number in proposals else proposals[number % len(proposals)]
        for voter in PEOPLE[:ayes]:
            self.world.submit(voter, Vote(chosen, True))
        for voter in PEOPLE[8 - noes :]:
            self.world.submit(voter, Vote(chosen, False))

    @rule(ahead=st.integers(0, 3), grains=st.integers(0, POT))
    def false_witness(self, ahead: int, grains: int) -> None:
        event = ChainEvent(
            kind="staked",
            block=1,
            log_index=0,
            account=PEOPLE[0].address,
            role=0,
            amount_grains=grains,
            subject=b"",
            detail=(grains,),
        )
        self.world.must(self.world.aggregators[3], Attest(self.world.ledger.state.next_chain_event + ahead, (event,)))

    # --- time and the chain ----------------------------------------------------------------------------------------
    @rule(milliseconds=st.sampled_from([1, 500, 999, 1_000, 1_001, 3_000, 5_000]))
    def time_passes(self, milliseconds: int) -> None:
        self.world.now_ms += milliseconds
        self.world.batch()

    @rule()
    def next_deadline(self) -> None:
        due = self.world.ledger.due_ms()
        if due is not None:
            self.world.now_ms = max(due, self.world.now_ms)
            self.world.batch()

    @rule()
    def settle(self) -> None:
        pending = self.world.ledger.state.pending
        if pending is not None:
            self.world.sign_epoch()
            genesis = self.world.genesis
            name = (pending.settlement.epoch, pending.settlement.round)
            digest = settlement_digest(genesis.chain_id, genesis.settlement_contract, pending.settlement)
            assert self.signed.setdefault(name, digest) == digest, "an honest signature made an equivocation"
            self.world.settle()

    @rule()
    def restart(self) -> None:
        snapshot = self.world.ledger.snapshot()
        restarted = Ledger(self.world.genesis)
        restarted.restore(snapshot)
        assert restarted.due_ms() == self.world.ledger.due_ms() and restarted.snapshot() == snapshot
        self.world.ledger = restarted

    # --- promises --------------------------------------------------------------------------------------------------
    @invariant()
    def every_order_has_a_deadline_or_waits_for_the_chain(self) -> None:
        state = self.world.ledger.state
        for order_id, order in state.orders.items():
            ended = TABLE[order.window].phase is Phase.ENDED
            if order.window is Window.FINALIZATION:
                assert order_id in state.unsettled and self.world.ledger.due_ms() is not None
            elif not ended:
                assert order.closes_ms > state.time_ms and (self.world.ledger.due_ms() or 0) <= order.closes_ms
            assert (order.void_reason is not None) == (order.window is Window.VOID)
            assert ended == bool(order.ended_ms)
            if self.ended.get(order_id) is Window.SETTLED:
                assert order.window is Window.SETTLED, "settled is for good"
            if ended:
                self.ended[order_id] = order.window
            assert self.ended.get(order_id) in (None, order.window)

    @invariant()
    def the_index_says_what_the_state_says(self) -> None:
        check_derived(self.world.ledger)

    @invariant()
    def parameters_go_together_and_every_vote_ends(self) -> None:
        state = self.world.ledger.state
        state.parameters.check()
        assert state.next_update_ms <= state.time_ms + max(state.parameters.update_ms, PARAMETERS.update_ms)
        for proposal in state.governance.proposals.values():
            assert (proposal.activates_ms or proposal.closes_ms) > state.time_ms
            assert proposal.activates_ms or set(proposal.votes) <= set(proposal.weights)

    @invariant()
    def locks_are_what_live_orders_say(self) -> None:
        check_locks(self.world.ledger)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        finish(self.world)
        state = self.world.ledger.state
        assert all(TABLE[order.window].phase is Phase.ENDED for order in state.orders.values())
        assert all(order.void_reason for order in state.orders.values() if order.window is Window.VOID)
        assert all(stake.locked == 0 for account in state.accounts.values() for stake in account.stakes)
        assert not state.unsettled and state.pending is None and not state.governance.proposals
        OUTCOMES.update(end.outcome for end in state.governance.ended)
        assert state.confirmed.total_grains == state.earned_grains
        self.world.now_ms += max(PARAMETERS.retention_ms, state.parameters.retention_ms)
        self.world.batch()
        assert not state.orders, "every body is forgotten in the end"
        ENDS.update(header.void_reason or header.window for header in state.headers.values())
        replayed = self.world.replayed()
        assert replayed.state.digest == self.world.ledger.state.digest
        assert replayed.snapshot() == self.world.ledger.snapshot()

    def __init__(self) -> None:
        super().__init__()
        self.signed: dict[tuple[int, int], bytes] = {}


quick = settings(
    max_examples=120, stateful_step_count=50, suppress_health_check=list(HealthCheck), derandomize=True
)  # the same histories in each run, so that what they reach can be required
thorough = settings(max_examples=2_000, stateful_step_count=100, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("how", [quick, pytest.param(thorough, marks=pytest.mark.long)], ids=["quick", "long"])
def test_whatever_people_do_the_ledger_keeps_its_promises(how: settings) -> None:
    ENDS.clear()
    OUTCOMES.clear()
    VERDICTS.clear()
    OPENED.clear()
    run_state_machine_as_test(Market, settings=how)
    assert ENDS[Window.SETTLED] > 0 and len(ENDS) > 3, f"a market that sees too little: {ENDS}"
    assert ENDS[VoidReason.INVALID_TEST_DATA] > 0 and ENDS[VoidReason.NOT_JUDGED] > 0, f"too little opened: {ENDS}"
    assert OPENED[True] > 0 and OPENED[False] > 0, f"too few openings: {OPENED}, {ENDS}"
    assert VERDICTS[True] > 0 and VERDICTS[False] > 0, f"too few verdicts: {VERDICTS}, {ENDS}"
    assert {"in force", "rejected", "lapsed"} <= set(OUTCOMES), f"votes that see too little: {OUTCOMES}"
