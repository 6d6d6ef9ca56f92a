"""One order on the real ledger, played by honest accounts and by a coalition with a plan of its own.

No sockets and no signatures: transactions go straight into the ledger, which admits only what was authenticated before.
Money is counted in grains: what an account earned and what is left of its stakes, less its escrows and its work.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from random import Random

from msgspec import structs

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import Record, Wide, encode, sha256
from pot_lab.crypto.identity import Address
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumTree
from pot_lab.crypto.sealed_model import KeyBoxes
from pot_lab.crypto.shamir import Share, split
from pot_lab.errors import InvariantBroken
from pot_lab.protocol.cycle import TABLE, Phase, Window
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
    challenge_commitment,
    claim_commitment,
    key_commitment,
    model_id,
    opening_name,
    sealing_binding,
    share_commitment,
    validation_commitment,
    validation_id,
)
from pot_lab.protocol.state import Genesis, Member, OrderState
from pot_lab.protocol.transactions import (
    BODIES,
    Attest,
    AttestBlobs,
    AttestBoxes,
    Challenge,
    Claim,
    CommitScores,
    HeldBox,
    ModelShare,
    OpenChallenge,
    OpenedScore,
    OpenScores,
    Put,
    Register,
    ReleaseModelShares,
    ReleaseShare,
    RevealModel,
    ScoreCommitment,
    Transaction,
    Verdict,
)
from pot_lab.simulator.economics.plan import OrderPlan
from pot_lab.simulator.sealing import sealed_key

POT = GRAINS_PER_POT
EXAMPLES = 64
"""In the test data; a model's quality is how many of them it gets right."""
REWARD_GRAINS, FEE_GRAINS = 25 * POT, POT
TRAINING_GRAINS, SCORING_GRAINS = POT, POT // 50
"""What a model costs to train, and to score once, as assumed here."""
MODEL_GRAINS = 40 * POT
"""What the best model of an order is worth to its client, as assumed here."""
AGGREGATORS = 4
_KINDS = {body: kind for kind, body in BODIES.items()}
_START_MS = 1_800_000_000_000
_WINDOWS = Windows(
    train_ms=10_000,
    reveal_ms=5_000,
    release_ms=5_000,
    score_ms=5_000,
    open_scores_ms=5_000,
    challenge_ms=5_000,
    open_challenges_ms=5_000,
    judge_ms=5_000,
)


class Game:
    """A network with honest validators of these stakes, three providers and a client.

    Args:
        seed: draws salts, and with them the seats.
        stakes_pot: the stakes of the honest validators, in POT.
        parameters: the network's; the default ones with short epochs.
    """

    def __init__(self, seed: int, stakes_pot: Sequence[int], parameters: Parameters | None = None) -> None:
        self.random = Random(f"economics {seed}")
        self.parameters = parameters or Parameters()
        self._aggregators = [f"aggregator {index}" for index in range(AGGREGATORS)]
        members = tuple(Member(account(name), sha256(name.encode())) for name in self._aggregators)
        self.ledger = Ledger(
            Genesis(
                name="economics",
                chain_id=1337,
                settlement_contract=b"\x07" * 20,
                members=members,
                parameters=self.parameters,
            )
        )
        self._network_id = self.ledger.book.network_id
        self._now_ms = _START_MS
        self._nonces: Counter[str] = Counter()
        self._salt = self.random.randbytes(16)
        self.validators = [f"validator {index}" for index in range(len(stakes_pot))]
        self._spent: Counter[str] = Counter()
        for name, stake_pot in zip(self.validators, stakes_pot, strict=True):
            self.join(name, Role.VALIDATOR, stake_pot)
        for name in ("provider 0", "provider 1", "provider 2"):
            self.join(name, Role.PROVIDER, 100)

    def join(self, name: str, role: Role, stake_pot: int) -> None:
        """Stake, and register."""
        self._chain("staked", account(name), stake_pot * POT, (stake_pot * POT,), role=role)
        self.submit(name, Register(int(role)))

    def unstake(self, name: str, role: Role) -> None:
        """Ask the chain for the whole stake back."""
        grains = self.ledger.book.stake(account(name), role).bonded
        self._chain("unstake_requested", account(name), grains, (0, 9), role=role)

    def submit(self, name: str, body: Record) -> bool:
        """One transaction in its own batch; whether it was accepted."""
        self._nonces[name] += 1
        transaction = Transaction(
            network_id=self._network_id,
            kind=_KINDS[type(body)],
            account=account(name),
            nonce=self._nonces[name],
            body=encode(body),
            signature=b"",
        )
        return self._batch(transaction)

    def wealth_grains(self, names: frozenset[str]) -> int:
        """What these accounts earned, get of slashed stakes and have at stake, less what they escrowed and spent."""
        book, total = self.ledger.book, 0
        for name in names:
            known = book.account(account(name))
            total += int(known.earned_grains) + self.ledger.state.dues.get(account(name), 0) - self._spent[name]
            total += sum(stake.bonded + stake.unbonding for stake in known.stakes)
        return total

    def play(self, plan: OrderPlan) -> int:
        """Play one order; returns what it brought the coalition, in grains."""
        before = self.wealth_grains(plan.coalition)
        order_id = self._place(plan)
        seen = self._cycle(plan, order_id) if order_id is not None else False
        gain = self.wealth_grains(plan.coalition) - before - plan.worked_grains
        return gain + (MODEL_GRAINS if seen and plan.values_model and plan.client in plan.coalition else 0)

    # --- the parts of the cycle --------------------------------------------------------------------------------
    def _place(self, plan: OrderPlan) -> OrderId | None:
        number = self._nonces[plan.client] + 1
        root, secret = sha256(self._salt + b"root"), sha256(self._salt + b"key")
        binding = sealing_binding(self._network_id, account(plan.client), number, root)
        counter = iter(range(1 << 20))
        shares = split(
            secret,
            correct(AGGREGATORS),
            AGGREGATORS,
            lambda count: (sha256(self._salt + b"share %d" % next(counter)) * 8)[:count],
        )
        promised = sha256(b"another key") if plan.false_key else secret
        order = OrderRecord(
            network_id=self._network_id,
            client=account(plan.client),
            nonce=number,
            seal_by_s=self._now_ms // 1000 + 10_000_000,
            reward_grains=REWARD_GRAINS,
            fee_grains=FEE_GRAINS,
            bond_grains=self.parameters.client_bond_grains(REWARD_GRAINS),
            model=_link("graph"),
            weights=_link("weights"),
            train=_link("train"),
            test=TestData(
                link=_link("test"),
                root=root,
                plain_digest=sha256(b"plain"),
                plain_bytes=1_000,
                examples=EXAMPLES,
                key_commitment=key_commitment(binding, promised),
                share_commitments=tuple(share_commitment(binding, share) for share in shares),
                sealed_shares=tuple(bytes(97) for _ in shares),
            ),
            score=ScoreSpec("accuracy", 1),
            windows=structs.replace(_WINDOWS, release_ms=plan.unjudged_in_ms or _WINDOWS.release_ms),
            claim_bond_grains=self.parameters.claim_bond_grains(REWARD_GRAINS),
            baseline_total=plan.baseline,
            baseline_count=EXAMPLES if plan.baseline else 0,
            margin_micro=0,
        )
        if not self.submit(plan.client, Put(order)):
            raise InvariantBroken("an order of the economy was refused", seen=order.id)
        fee = order.fee_grains - plan.escrow_off_grains
        self._shares = shares
        self._spent[plan.client] += order.reward_grains + fee + order.bond_grains
        detail = (fee, order.bond_grains, order.seal_by_s, order.nonce)
        self._chain("order_placed", order.client, order.reward_grains, detail, subject=order.id)
        self._hold(order.id)
        return order.id if self._order(order.id).window is Window.COMMIT else None

    def _cycle(self, plan: OrderPlan, order_id: OrderId) -> bool:
        """Bring the order to its end; returns whether the client has seen the models."""
        for provider, model in plan.claims:
            signed_by = plan.copied.get(provider, provider)
            self.submit(provider, Claim(order_id, self._claimed(order_id, signed_by, model)))
        if not self._wait_for(order_id, Window.REVEAL):
            return False
        shown = {provider: model for provider, model in plan.claims if provider not in plan.hidden}
        for provider, model in shown.items():
            boxes, _ = self._sealed(order_id, provider, model)
            salt = Salt(self._salted(provider, model))
            self.submit(
                provider,
                RevealModel(order_id=order_id, mid=_mid(model), ciphertext=_link(model), boxes=boxes, salt=salt),
            )
        self._hold(order_id)
        for aggregator in self._aggregators if shown else []:
            self.submit(aggregator, AttestBoxes(order_id, tuple(HeldBox(account(provider)) for provider in shown)))
        if not self._wait_for(order_id, Window.RELEASE):
            return False
        opened = self._open(plan, order_id, shown)
        if not self._wait_for(order_id, Window.SCORE):
            return opened
        plan.after_draw()
        models = {_mid(model): model for model in shown.values()}
        committed: dict[str, dict[str, int]] = {}
        for extended in (False, True):
            order = self._order(order_id)
            if order.window is not Window.SCORE or order.extended != extended:
                break
            for validator in self._seated(order):
                mine = self._scores(plan, order, validator, models) if validator not in committed else {}
                if mine and self.submit(
                    validator, CommitScores(order_id, self._commitments(order_id, validator, mine))
                ):
                    committed[validator] = mine
            if self._order(order_id).window is Window.SCORE:
                self._to_deadline()
        if not self._wait_for(order_id, Window.OPEN_SCORES):
            return True
        for validator, scores in committed.items():
            if validator not in plan.unopened:
                self.submit(
                    validator, OpenScores(order_id, tuple(self._opened(validator, *each) for each in scores.items()))
                )
                self._hold(order_id)
        self._dispute(plan, order_id, committed, models)
        while TABLE[self._order(order_id).window].phase not in (Phase.FINALIZATION, Phase.ENDED):
            self._judge(plan, order_id, models)
            self._to_deadline()
        return True

    def _open(self, plan: OrderPlan, order_id: OrderId, shown: Mapping[str, str]) -> bool:
        """Aggregators open the test data, judge them, and open the models; returns whether any model is open."""
        able = range(plan.silent_aggregators, AGGREGATORS)
        for index in able:
            self.submit(self._aggregators[index], ReleaseShare(order_id, Share(index + 1, self._shares[index].value)))
        if not plan.unjudged_in_ms:
            self._say(plan, order_id, b"", not plan.false_test_data)
        shares = {provider: self._sealed(order_id, provider, model)[1] for provider, model in shown.items()}
        for index in able:
            items = tuple(ModelShare(account(provider), each[index]) for provider, each in shares.items())
            self.submit(self._aggregators[index], ReleaseModelShares(order_id, items))
        order = self._order(order_id)
        opened = any(claim.sealed is not None and claim.sealed.key for claim in order.claims.values())
        for provider, model in shown.items():
            self._say(plan, order_id, _mid(model), provider not in plan.unopenable)
        return opened

    def _say(self, plan: OrderPlan, order_id: OrderId, mid: bytes, right: bool) -> None:
        """Verdicts on what was opened."""
        for index, aggregator in enumerate(self._aggregators):
            said = right != (index < plan.lying_aggregators)
            self.submit(aggregator, Verdict(order_id, opening_name(self._network_id, order_id, mid), said))

    def _sealed(self, order_id: OrderId, provider: str, model: str) -> tuple[KeyBoxes, tuple[Share, ...]]:
        """The key of a provider's model, in boxes that nobody has to open here, and its shares."""
        return sealed_key(self._network_id, order_id, account(provider), _link(model).digest, AGGREGATORS)

    def _scores(
        self, plan: OrderPlan, order: OrderState, validator: str, models: Mapping[ModelId, str]
    ) -> dict[str, int]:
        found: dict[str, int] = {}
        for claim in order.revealed():
            model = models[claim.mid]
            if account(validator) in order.seats_of(claim):
                total = plan.score(validator, model, plan.qualities[model])
                if total is not None:
                    found[model] = total
                if plan.works(validator, model):
                    self._spent[validator] += SCORING_GRAINS
        return found

    def _commitments(self, order_id: OrderId, validator: str, scores: Mapping[str, int]) -> tuple[ScoreCommitment, ...]:
        items = []
        for model, total in scores.items():
            opened = self._opened(validator, model, total)
            commitment = validation_commitment(
                self._network_id,
                order_id,
                opened.mid,
                account(validator),
                opened.score,
                opened.transcript_root,
                opened.salt,
            )
            items.append(ScoreCommitment(opened.mid, commitment))
        return tuple(items)

    def _opened(self, validator: str, model: str, total: int) -> OpenedScore:
        tree = _transcript(max(total, 0))
        valid = total >= 0
        if not valid:
            tree = _transcript(EXAMPLES)
        return OpenedScore(
            mid=_mid(model),
            score=ClaimScore(tree.total, EXAMPLES, valid),
            transcript_root=tree.root,
            top=tree.top,
            transcript=_link(f"transcript {total}"),
            salt=Salt(self._salted(validator, model)),
        )

    def _dispute(
        self,
        plan: OrderPlan,
        order_id: OrderId,
        committed: Mapping[str, Mapping[str, int]],
        models: Mapping[ModelId, str],
    ) -> None:
        if not plan.challenges or not self._wait_for(order_id, Window.CHALLENGE):
            return
        for index, each in enumerate(plan.challenges):
            vid = validation_id(self._network_id, order_id, _mid(each.model), account(each.validator))
            salt = self._salted(each.challenger, f"challenge {index}")
            commitment = challenge_commitment(self._network_id, order_id, account(each.challenger), vid, 0, Salt(salt))
            self.submit(each.challenger, Challenge(order_id, int(each.role), commitment))
        if not self._wait_for(order_id, Window.OPEN_CHALLENGES):
            return
        for index, each in enumerate(plan.challenges):
            total = committed.get(each.validator, {}).get(each.model)
            if each.opens and total is not None:
                tree = _transcript(max(total, 0))
                self.submit(
                    each.challenger,
                    OpenChallenge(
                        order_id=order_id,
                        mid=_mid(each.model),
                        validator=account(each.validator),
                        leaf=int(total > 0),
                        leaves_total=tree.total,
                        proof=tree.proof(0),
                        salt=Salt(self._salted(each.challenger, f"challenge {index}")),
                    ),
                )

    def _judge(self, plan: OrderPlan, order_id: OrderId, models: Mapping[ModelId, str]) -> None:
        """Aggregators run the disputed examples again."""
        for dispute in list(self._order(order_id).disputes):
            truth = plan.qualities[models[dispute.mid]]
            right = self._opened("", models[dispute.mid], truth).score == dispute.score
            if dispute.challenger and dispute.shown is not None:
                right = dispute.shown.leaf == int(truth > 0)
            for index, aggregator in enumerate(self._aggregators):
                self.submit(aggregator, Verdict(order_id, dispute.name, right != (index < plan.lying_aggregators)))

    def _hold(self, order_id: OrderId) -> None:
        """Aggregators attest everything that the order names."""
        order = self._order(order_id)
        links = [*order.order.files]
        links += [each.transcript for each in order.validations if each.transcript is not None]
        links += [claim.sealed.ciphertext for claim in order.claims.values() if claim.sealed is not None]
        for aggregator in self._aggregators:
            for link in links:
                self.submit(aggregator, AttestBlobs((HeldBlob(link.digest, link.size_bytes),)))

    def _claimed(self, order_id: OrderId, provider: str, model: str) -> bytes:
        blob = HeldBlob(_link(model).digest, _link(model).size_bytes)
        boxes, _ = self._sealed(order_id, provider, model)
        salt = Salt(self._salted(provider, model))
        return claim_commitment(self._network_id, order_id, account(provider), _mid(model), blob, boxes.root, salt)

    def _seated(self, order: OrderState) -> Iterator[str]:
        held = {each for seats in order.seats for each in seats}
        yield from (name for name in sorted(self._nonces) if account(name) in held)

    def _salted(self, name: str, what: str) -> bytes:
        return sha256(self._salt + name.encode() + what.encode())

    # --- batches -----------------------------------------------------------------------------------------------
    def _order(self, order_id: OrderId) -> OrderState:
        return self.ledger.state.orders[order_id]

    def _batch(self, *transactions: Transaction) -> bool:
        replies, _ = self.ledger.execute(self.ledger.state.sequence + 1, self._now_ms, transactions)
        return all(reply.accepted for reply in replies)

    def _to_deadline(self) -> None:
        self._now_ms = max(self._now_ms + 1, self.ledger.due_ms() or 0)
        self._batch()

    def _wait_for(self, order_id: OrderId, window: Window) -> bool:
        """Let time pass until the order is in this window or past it; whether it is in it."""
        places = list(Window)
        while places.index(self._order(order_id).window) < places.index(window):
            self._to_deadline()
        self._batch()
        return self._order(order_id).window is window

    def _chain(
        self,
        kind: str,
        who: Address,
        grains: int,
        detail: tuple[int, ...],
        *,
        role: int = -1,
        subject: bytes = b"",
    ) -> None:
        event = ChainEvent(
            kind=kind,
            block=1,
            log_index=0,
            account=who,
            role=int(role),
            amount_grains=Wide(grains),
            subject=subject,
            detail=detail,
        )
        first = self.ledger.state.next_chain_event
        for aggregator in self._aggregators[: self.ledger.book.faulty + 1]:
            self.submit(aggregator, Attest(first, (event,)))


def account(name: str) -> Address:
    """The address of somebody of this name."""
    return Address(sha256(name.encode())[:20])


@functools.cache
def _transcript(total: int) -> SumTree:
    return SumTree([1] * total + [0] * (EXAMPLES - total))


@functools.cache
def _link(name: str) -> Link:
    return Link(sha256(name.encode()), 1_000, f"https://example.org/{sha256(name.encode()).hex()[:12]}")


def _mid(model: str) -> ModelId:
    return model_id(_link("graph").digest, _link(model).digest)
