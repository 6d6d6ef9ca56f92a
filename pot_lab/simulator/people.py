"""Who lives on a simulated network, and what they want next: orders from put to settlement, as signed transactions.

Each person looks at the ledger and says what its role asks of it, as the loops in `jobs` and the duties in `network`
do: a provider claims and reveals, a validator commits to scores and opens them, aggregators attest the chain, release
their key shares and sign epochs. What training and scoring would find is made up; the transactions are real. Everything
here follows from the number of aggregators, so it is made once and shared by all runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import Record, Wide, sha256
from pot_lab.crypto.identity import Address
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumTree
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.crypto.shamir import Share, split
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.parameters import GRAINS_PER_POT, Parameters, Role
from pot_lab.protocol.records import (
    ChainEvent,
    ClaimScore,
    HeldBlob,
    ModelId,
    OrderId,
    OrderRecord,
    Salt,
    ScoreSpec,
    TestData,
    Windows,
    claim_commitment,
    key_commitment,
    model_id,
    sealing_binding,
    share_commitment,
    validation_commitment,
)
from pot_lab.protocol.settlement import Settlement, settlement_digest
from pot_lab.protocol.state import Genesis, Member, OrderState
from pot_lab.protocol.transactions import (
    Attest,
    AttestBlobs,
    Claim,
    CommitScores,
    OpenedScore,
    OpenScores,
    Put,
    Register,
    ReleaseShare,
    RevealModel,
    ScoreCommitment,
    SignEpoch,
    Unregister,
    Withdraw,
    sign,
)
from pot_lab.simulator.sealing import opening_duties, sealed_key
from pot_lab.simulator.signatures import Signer
from pot_lab.simulator.virtual_time import START_MS, EventQueue

POT = GRAINS_PER_POT
PROVIDERS, VALIDATORS, REGULARS, STRANGERS = 2, 3, 2, 1
_WINDOWS = Windows(
    train_ms=2_500,
    reveal_ms=4_000,
    release_ms=4_000,
    score_ms=4_000,
    open_scores_ms=4_000,
    challenge_ms=1_000,
    open_challenges_ms=500,
    judge_ms=500,
)
_EXAMPLES = 20
_REPEAT_MS = 3_000
_BLOCK_US = 400_000
_EVENTS_PER_ATTESTATION = 64
_BLOBS_AT_ONCE = 64

Intent = tuple[str, Record]


def _key(name: str) -> Signer:
    return Signer(sha256(b"simulated " + name.encode()))


def _link(name: str) -> Link:
    return Link(sha256(name.encode()), 1_000, f"https://example.org/{name}")


def _salt(*names: str) -> Salt:
    return Salt(sha256(b"salt " + "/".join(names).encode()))


class Cast:
    """The accounts of a network with n aggregators, its genesis, and the orders that its client will place.

    Attributes:
        keys: each host's key for its seat, and the one that it may rotate to; one host more than there are seats.
    """

    def __init__(self, n: int) -> None:
        self.aggregators = [_key(f"aggregator {i}") for i in range(n)]
        self.client = _key("client")
        self.providers = [_key(f"provider {i}") for i in range(PROVIDERS)]
        self.validators = [_key(f"validator {i}") for i in range(VALIDATORS)]
        self.regulars = [_key(f"regular {i}") for i in range(REGULARS)]
        self.strangers = [_key(f"stranger {i}") for i in range(STRANGERS)]
        self.byzantine_client = _key("lying client")
        self.registrar = _key("registrar")
        self.keys = [(_key(f"aggregator {i}"), _key(f"aggregator {i}, rotated")) for i in range(n + 1)]
        parameters = Parameters(
            min_train_ms=1_000,
            min_window_ms=500,
            window_bytes_per_s=10**9,
            usual_windows_ms=(4_000,) * 7,
            pool_ms=8_000,
            update_ms=1_000,
            settlement_timeout_ms=4_000,
            retention_ms=4_000,
            min_validators=VALIDATORS,
            treasury=_key("treasury").address,
        )
        members = tuple(Member(each.address, sha256(b"seal %d" % i)) for i, each in enumerate(self.aggregators))
        self.genesis = Genesis(
            name="simulated", chain_id=1337, settlement_contract=b"\x07" * 20, members=members, parameters=parameters
        )
        self.network_id = self.genesis.network_id
        self._orders: dict[int, tuple[OrderRecord, list[Share]]] = {}

    def order(self, number: int) -> tuple[OrderRecord, list[Share]]:
        """The client's order of this number, and the shares of its test data's key."""
        if number not in self._orders:
            self._orders[number] = self._make_order(number)
        return self._orders[number]

    def _make_order(self, number: int) -> tuple[OrderRecord, list[Share]]:
        n = len(self.aggregators)
        secret, root = sha256(b"test key %d" % number), sha256(b"root %d" % number)
        binding = sealing_binding(self.network_id, self.client.address, number, root)
        counter = iter(range(1 << 30))

        def bytes_for(count: int) -> bytes:
            return hashlib.shake_256(b"%d/%d" % (number, next(counter))).digest(count)

        shares = split(secret, correct(n), n, bytes_for)
        test = TestData(
            link=_link("test"),
            root=root,
            plain_digest=sha256(b"plain"),
            plain_bytes=1_000,
            examples=_EXAMPLES,
            key_commitment=key_commitment(binding, secret),
            share_commitments=tuple(share_commitment(binding, share) for share in shares),
            sealed_shares=tuple(b"sealed" for _ in shares),
        )
        order = OrderRecord(
            network_id=self.network_id,
            client=self.client.address,
            nonce=number,
            seal_by_s=START_MS // 1000 + 1_000_000,
            reward_grains=25 * POT,
            fee_grains=POT,
            bond_grains=3 * POT,
            model=_link("graph"),
            weights=_link("weights"),
            train=_link("train"),
            test=test,
            score=ScoreSpec("accuracy", 1),
            windows=_WINDOWS,
            claim_bond_grains=POT,
            baseline_total=0,
            baseline_count=0,
            margin_micro=0,
            title=f"order {number}",
        )
        return order, shares


@lru_cache(maxsize=16)
def cast_of(n: int) -> Cast:
    """The cast of a network with n aggregators."""
    return Cast(n)


class Chain:
    """The chain as the aggregators see it: events, each visible some time after it happened."""

    def __init__(self, queue: EventQueue) -> None:
        self._queue = queue
        self._events: list[tuple[int, ChainEvent]] = []
        self._settled: set[int] = set()
        self._slashed: dict[tuple[Address, int], int] = {}

    def add(self, event: ChainEvent) -> None:
        """Something happened on the chain."""
        self._events.append((self._queue.now_us + _BLOCK_US, event))

    def seen(self, first: int) -> tuple[ChainEvent, ...]:
        """Confirmed events from a number on, as many as one attestation carries."""
        confirmed = self._events[first : first + _EVENTS_PER_ATTESTATION]
        return tuple(event for at_us, event in confirmed if at_us <= self._queue.now_us)

    def settle(self, settlement: Settlement) -> None:
        """An aggregator sends a settlement with a quorum of signatures; each epoch is taken once."""
        if settlement.epoch in self._settled:
            return
        self._settled.add(settlement.epoch)
        detail = (settlement.epoch, settlement.round, settlement.signer_set_id)
        self.add(
            ChainEvent(
                kind="settled",
                block=9,
                log_index=0,
                account=Address(bytes(20)),
                role=-1,
                amount_grains=settlement.cumulative_total,
                subject=settlement.root,
                detail=detail,
            )
        )

    def slash(self, node: Address, role: int, cumulative_grains: int) -> None:
        """An aggregator applies a slash of a confirmed epoch; the settlement contract gets what is new of it."""
        new_grains = cumulative_grains - self._slashed.get((node, role), 0)
        if new_grains <= 0:
            return
        self._slashed[node, role] = cumulative_grains
        for kind, of, detail in (("slashed", role, (0,)), ("funded", -1, ())):
            self.add(
                ChainEvent(
                    kind=kind,
                    block=9,
                    log_index=0,
                    account=node,
                    role=of,
                    amount_grains=Wide(new_grains),
                    subject=b"",
                    detail=detail,
                )
            )

    @property
    def is_quiet(self) -> bool:
        """Whether everything on it can be seen."""
        return all(at_us <= self._queue.now_us for at_us, _ in self._events)

    @property
    def height(self) -> int:
        """How many events there are."""
        return len(self._events)


class AggregatorDuty:
    """What one aggregator owes besides ordering: attestations, key shares, signatures of epochs."""

    def __init__(self, cast: Cast, index: int, chain: Chain, queue: EventQueue, said: Callable[[bytes], None]) -> None:
        self._cast, self._index, self._chain, self._queue, self._said = cast, index, chain, queue, said
        self._nonce = 0
        self._said_ms: dict[object, int] = {}

    def poll(self, node: object) -> list[bytes]:
        """Signed requests that are due; `node` is the aggregator's own."""
        ledger: Ledger = node.application.ledger  # type: ignore[attr-defined]
        found = [self._say(body) for what, body in self._due(ledger) if self._is_time(what)]
        for request in found:
            self._said(request)
        return found

    def _due(self, ledger: Ledger) -> Iterator[tuple[object, Record]]:
        state, me = ledger.state, self._cast.aggregators[self._index]
        events = self._chain.seen(state.next_chain_event)
        if events:
            yield ("attest", state.next_chain_event, len(events)), Attest(state.next_chain_event, events)
        for order_id, order in state.orders.items():
            if order.window is Window.RELEASE and self._index not in order.shares:
                yield ("share", order_id), ReleaseShare(order_id, self._cast.order(order.order.nonce)[1][self._index])
        mine = state.keys.get(me.address)
        if mine is not None:
            for order_id, order in state.orders.items():
                if order.window in (Window.REVEAL, Window.RELEASE):
                    yield from opening_duties(ledger, order_id, order, mine)
        if mine is not None and me.address in ledger.book.members:
            named = dict.fromkeys(each.blob for each in ledger.book.custody.all_named())
            held = tuple(blob for blob in named if mine not in state.custody.get(blob.key, ()))[:_BLOBS_AT_ONCE]
            if held:
                yield ("hold", held), AttestBlobs(held)
        for node, by_role in sorted(state.confirmed.slashes.items()):
            for role, grains in enumerate(by_role):
                self._chain.slash(node, role, grains)
        pending = state.pending
        if pending is None:
            return
        settlement = pending.settlement
        if len(pending.signatures) >= ledger.book.quorum:
            self._chain.settle(settlement)
        elif me.address not in pending.signatures:
            genesis = state.genesis
            digest = settlement_digest(genesis.chain_id, genesis.settlement_contract, settlement)
            name = ("sign", settlement.epoch, settlement.round)
            yield name, SignEpoch(settlement.epoch, settlement.round, me.sign(digest))

    def _is_time(self, what: object) -> bool:
        now_ms = self._queue.now_ms
        if now_ms - self._said_ms.get(what, -_REPEAT_MS) < _REPEAT_MS:
            return False
        self._said_ms[what] = now_ms
        return True

    def _say(self, body: Record) -> bytes:
        self._nonce = max(self._nonce + 1, self._queue.now_us)
        return sign(self._cast.network_id, body, self._cast.aggregators[self._index], self._nonce)


class Person:
    """An account that wants things of the ledger.

    Attributes:
        identity: its key.
    """

    def __init__(self, cast: Cast, identity: Signer) -> None:
        self.cast, self.identity = cast, identity

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """What it would say now: a name, under which it says nothing else meanwhile, and a transaction's body."""
        raise NotImplementedError

    def _is_active(self, ledger: Ledger, role: Role) -> bool:
        known = ledger.state.accounts.get(self.identity.address)
        return known is not None and known.active[role]

    def _may_register(self, ledger: Ledger, role: Role) -> bool:
        known = ledger.state.accounts.get(self.identity.address)
        wanted = ledger.state.parameters.min_stake_grains[role]
        return known is not None and not known.active[role] and known.stakes[role].bonded >= wanted


class Client(Person):
    """Places one order after the other."""

    def __init__(self, cast: Cast, chain: Chain, orders: int) -> None:
        super().__init__(cast, cast.client)
        self._chain, self._left, self._next = chain, orders, 1

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """Its next order, once the one before has ended."""
        live = [order for order in ledger.state.orders.values() if not order.ended_ms and order.void_reason is None]
        if self._next <= self._left and not live:
            order, _ = self.cast.order(self._next)
            self._next += 1
            detail = (order.fee_grains, order.bond_grains, order.seal_by_s, order.nonce)
            self._chain.add(
                ChainEvent(
                    kind="order_placed",
                    block=2,
                    log_index=0,
                    account=order.client,
                    role=-1,
                    amount_grains=Wide(order.reward_grains),
                    subject=order.id,
                    detail=detail,
                )
            )
            yield f"put {order.nonce}", Put(order)


class Provider(Person):
    """Claims every order and reveals its model."""

    def __init__(self, cast: Cast, place: int) -> None:
        super().__init__(cast, cast.providers[place])
        self._name = f"provider {place}"

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """To register, claim and reveal."""
        if self._may_register(ledger, Role.PROVIDER):
            yield "register", Register(int(Role.PROVIDER))
        if not self._is_active(ledger, Role.PROVIDER):
            return
        me = self.identity.address
        for order_id, order in ledger.state.orders.items():
            ciphertext, salt = _link(self._name), _salt(self._name, order.order.title)
            mid = model_id(order.order.model.digest, ciphertext.digest)
            claim = order.claims.get(me)
            if order.window is Window.COMMIT and claim is None:
                boxes = self._boxes(ledger, order_id, order)
                blob = HeldBlob(ciphertext.digest, ciphertext.size_bytes)
                commitment = claim_commitment(self.cast.network_id, order_id, me, mid, blob, boxes.root, salt)
                yield f"claim {order.order.nonce}", Claim(order_id, commitment)
            elif order.window is Window.REVEAL and claim is not None and not claim.mid:
                boxes = self._boxes(ledger, order_id, order)
                body = RevealModel(order_id=order_id, mid=mid, ciphertext=ciphertext, boxes=boxes, salt=salt)
                yield f"reveal {order.order.nonce}", body

    def _boxes(self, ledger: Ledger, order_id: OrderId, order: OrderState) -> KeyBoxes:
        holders, digest = len(ledger.state.sets[order.sealed_to]), _link(self._name).digest
        return sealed_key(self.cast.network_id, order_id, self.identity.address, digest, holders)[0]


class Validator(Person):
    """Scores what it is drawn for: commits, then opens."""

    def __init__(self, cast: Cast, place: int) -> None:
        super().__init__(cast, cast.validators[place])
        self._name = f"validator {place}"

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """To register, commit to scores and open them."""
        if self._may_register(ledger, Role.VALIDATOR):
            yield "register", Register(int(Role.VALIDATOR))
        me = self.identity.address
        for order_id, order in ledger.state.orders.items():
            nonce = order.order.nonce
            if order.window is Window.SCORE:
                done = {v.mid for v in order.validations if v.validator == me}
                drawn = [c.mid for c in order.revealed() if me in order.seats_of(c) and c.mid not in done]
                if drawn:
                    items = tuple(ScoreCommitment(mid, self._commitment(order_id, nonce, mid)) for mid in drawn)
                    yield f"commit {nonce}", CommitScores(order_id, items)
            elif order.window is Window.OPEN_SCORES:
                mine = [v.mid for v in order.validations if v.validator == me and v.score is None]
                if mine:
                    yield f"open {nonce}", OpenScores(order_id, tuple(self._opened(nonce, mid) for mid in mine))

    def _opened(self, nonce: int, mid: ModelId) -> OpenedScore:
        total = mid[0] % _EXAMPLES
        tree = SumTree([1] * total + [0] * (_EXAMPLES - total))
        return OpenedScore(
            mid=mid,
            score=ClaimScore(total, _EXAMPLES, True),
            transcript_root=tree.root,
            top=tree.top,
            transcript=_link("transcript"),
            salt=_salt(self._name),
        )

    def _commitment(self, order_id: OrderId, nonce: int, mid: ModelId) -> bytes:
        o = self._opened(nonce, mid)
        network_id, me = self.cast.network_id, self.identity.address
        return validation_commitment(network_id, order_id, mid, me, o.score, o.transcript_root, o.salt)


class Regular(Person):
    """Registers as a verifier and leaves again, all the time: transactions that always change something."""

    def __init__(self, cast: Cast, place: int) -> None:
        super().__init__(cast, cast.regulars[place])

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """To be in if it is out, and out if it is in."""
        if self._may_register(ledger, Role.VERIFIER):
            yield "turn", Register(int(Role.VERIFIER))
        elif self._is_active(ledger, Role.VERIFIER):
            yield "turn", Unregister(int(Role.VERIFIER))


class Stranger(Person):
    """Asks for what it cannot have; its requests are ordered and refused, each once."""

    def __init__(self, cast: Cast, place: int) -> None:
        super().__init__(cast, cast.strangers[place])
        self._asked = 0

    def intents(self, ledger: Ledger, now_ms: int) -> Iterator[Intent]:
        """To withdraw an order that does not exist."""
        self._asked += 1
        yield "withdraw", Withdraw(OrderId(sha256(b"no order %d" % self._asked)))


def population(cast: Cast, chain: Chain, orders: int) -> list[Person]:
    """Everybody of a run, with their stakes on the chain."""
    staked = [(Role.PROVIDER, cast.providers), (Role.VALIDATOR, cast.validators), (Role.VERIFIER, cast.regulars)]
    for role, accounts in staked:
        for each in accounts:
            chain.add(
                ChainEvent(
                    kind="staked",
                    block=1,
                    log_index=0,
                    account=each.address,
                    role=int(role),
                    amount_grains=Wide(200 * POT),
                    subject=b"",
                    detail=(200 * POT,),
                )
            )
    people: list[Person] = [Client(cast, chain, orders)]
    people += [Provider(cast, place) for place in range(PROVIDERS)]
    people += [Validator(cast, place) for place in range(VALIDATORS)]
    people += [Regular(cast, place) for place in range(REGULARS)]
    people += [Stranger(cast, place) for place in range(STRANGERS)]
    return people
