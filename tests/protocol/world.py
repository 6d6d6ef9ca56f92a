"""A small world for ledger tests: a network of identities, and one call for each thing that people do in it."""

from __future__ import annotations

import functools
import hashlib
from typing import Any, NamedTuple

from msgspec import structs

from pot_lab.agreement.quorum import correct
from pot_lab.crypto.canonical import Record, decode, encode, sha256
from pot_lab.crypto.identity import Identity
from pot_lab.crypto.link import Link
from pot_lab.crypto.merkle import SumTree
from pot_lab.crypto.sealed_box import SealingKey
from pot_lab.crypto.sealed_model import BoxHolder, KeyBoxes, model_binding, open_model_share, seal_key
from pot_lab.crypto.shamir import Share, split
from pot_lab.protocol.custody import in_custody
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.ledger import Ledger, LedgerSnapshot
from pot_lab.protocol.orders.accepting import may_judge
from pot_lab.protocol.parameters import GRAINS_PER_POT, Parameters, Role
from pot_lab.protocol.records import (
    ChainEvent,
    ClaimScore,
    HeldBlob,
    OrderRecord,
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
from pot_lab.protocol.settlement import settlement_digest
from pot_lab.protocol.state import Event, Genesis, LedgerState, Member, OrderState, SealedModelState
from pot_lab.protocol.transactions import (
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
    Reply,
    RevealModel,
    ScoreCommitment,
    SignEpoch,
    Verdict,
    open_transaction,
    sign,
)

POT = GRAINS_PER_POT
_BLOBS_AT_ONCE = 64
START_MS = 1_800_000_000_000
WINDOWS = Windows(
    train_ms=10_000,
    reveal_ms=5_000,
    release_ms=5_000,
    score_ms=5_000,
    open_scores_ms=5_000,
    challenge_ms=3_000,
    open_challenges_ms=2_000,
    judge_ms=2_000,
)


def key(name: str) -> Identity:
    """An identity that is the same in every run."""
    return Identity(hashlib.sha256(name.encode()).digest())


def deterministic_bytes(name: str):
    """A source of bytes for `split` that is the same in every run."""
    counter = iter(range(1 << 30))
    return lambda count: hashlib.shake_256(f"{name}{next(counter)}".encode()).digest(count)


PARAMETERS = Parameters(
    update_ms=1_000,
    treasury=key("treasury").address,
    client_bond_bp=800,  # 2 POT of 25
    seats_per_order=63,  # so many that each of a few validators with equal stake has some
)


class SealedModel(NamedTuple):
    """A provider's model as it claims and reveals it."""

    mid: bytes
    ciphertext: Link
    boxes: KeyBoxes
    shares: list[Share]
    salt: bytes


class World:
    """A ledger, its people, and a clock that the test turns."""

    def __init__(self, aggregators: int = 4, parameters: Parameters | None = None) -> None:
        self.aggregators = [key(f"aggregator {i}") for i in range(aggregators)]
        self.sealing = [
            SealingKey.from_secret(hashlib.sha256(f"seal {i}".encode()).digest()) for i in range(aggregators)
        ]
        members = tuple(Member(a.address, s.public) for a, s in zip(self.aggregators, self.sealing, strict=True))
        self.parameters = parameters or PARAMETERS
        self.genesis = Genesis(
            name="test", chain_id=1337, settlement_contract=b"\x07" * 20, members=members, parameters=self.parameters
        )
        self.network_id = self.genesis.network_id
        self.ledger = Ledger(self.genesis)
        self.now_ms = START_MS
        self.nonces: dict[bytes, int] = {}
        self.log: list[tuple[int, tuple[bytes, ...]]] = []
        self.chain_events = 0
        self.events: list[Event] = []
        self.client = key("client")
        self.invalid: set[str] = set()
        self.keys: dict[bytes, bytes] = {}
        self.shares: dict[bytes, list[Share]] = {}
        self.expects_faults = False
        """Whether the test makes the ledger fail; any other fault is a bug."""
        self.keeps = True
        """Whether members attest by themselves whatever orders name, and the boxes of revealed models."""
        self._models: dict[tuple[bytes, bytes, bytes], SealedModel] = {}
        self.lost: set[Link] = set()
        """Links that answer no member."""
        self._kept_of, self._kept_version = self.ledger.book.custody, 0

    # --- batches ----------------------------------------------------------------------------------------------
    def signed(self, identity: Identity, body: Record) -> bytes:
        """The bytes of a transaction with the identity's next nonce."""
        nonce = self.nonces[identity.address] = self.nonces.get(identity.address, 0) + 1
        return sign(self.network_id, body, identity, nonce)

    def ordered(self, *requests: bytes) -> list[Reply]:
        """Order these transactions in one batch now."""
        transactions = [open_transaction(request, self.network_id) for request in requests]
        self.log.append((self.now_ms, requests))
        replies, events = self.ledger.execute(self.ledger.state.sequence + 1, self.now_ms, transactions)
        self.events += events
        self.ledger.book.audit()
        if not self.expects_faults:
            assert not self.ledger.book.faults, self.ledger.book.faults[0].traceback
        if self.keeps:
            self.keep()
        return replies

    def keep(self) -> None:
        """f+1 members attest every blob that an order names and that is not in custody."""
        book = self.ledger.book
        if self._kept_of is not book.custody:  # the test took another ledger
            self._kept_of, self._kept_version, changed = book.custody, 0, book.custody.orders()
        else:
            changed = book.custody.changed_since(self._kept_version)
        named = (each for order_id in sorted(changed) for each in book.custody.of_order(order_id))
        missing = list(dict.fromkeys(each.blob for each in named if not self._has(each.link)))
        self._kept_version = book.custody.version
        boxes = self._boxes_to_attest()
        if not missing and not boxes:
            return
        able = [
            each
            for each in self.aggregators
            if each.address in book.members and each.address not in book.state.convicted
        ]
        said = [
            (member, AttestBlobs(tuple(missing[start : start + _BLOBS_AT_ONCE])))
            for member in able[: book.faulty + 1]
            for start in range(0, len(missing), _BLOBS_AT_ONCE)
        ]
        self.keeps = False
        self.batch(*said, *boxes)
        self.keeps = True

    def _boxes_to_attest(self) -> list[tuple[Identity, Record]]:
        said: list[tuple[Identity, Record]] = []
        for order_id in sorted(self.ledger.book.index.in_window(Window.REVEAL)):
            order, holders = self.order(order_id), self.holders(order_id)
            needed = correct(len(self.ledger.state.sets[order.sealed_to]))
            for holder in list(holders.values())[:needed]:
                account = self.ledger.state.keys[holder.address]
                named = [each for each in order.claims.values() if each.sealed and account not in each.sealed.holders]
                if named:
                    said.append((holder, AttestBoxes(order_id, tuple(HeldBox(each.provider) for each in named))))
        return said

    def holders(self, order_id: bytes) -> dict[int, Identity]:
        """Who holds shares of this order's keys and may act, by place."""
        state = self.ledger.state
        accounts = [each.address for each in state.sets[self.order(order_id).sealed_to]]
        known = {state.keys[each.address]: each for each in self.aggregators if each.address in state.keys}
        able = {place: known[each] for place, each in enumerate(accounts) if each in known}
        return {place: each for place, each in able.items() if each.address not in state.convicted}

    def batch(self, *said: tuple[Identity, Record]) -> list[Reply]:
        """Order what was said in one batch now."""
        return self.ordered(*(self.signed(identity, body) for identity, body in said))

    def _has(self, link: Link) -> bool:
        return link in self.lost or in_custody(self.ledger.book, link)

    def replayed(self) -> Ledger:
        """A second ledger that executed the same batches."""
        other = Ledger(self.genesis)
        for sequence, (time_ms, requests) in enumerate(self.log, 1):
            other.execute(sequence, time_ms, [open_transaction(request, self.network_id) for request in requests])
        return other

    def submit(self, identity: Identity, body: Record) -> Reply:
        """One transaction in its own batch."""
        return self.batch((identity, body))[0]

    def must(self, identity: Identity, body: Record) -> Reply:
        """One transaction that has to be accepted."""
        reply = self.submit(identity, body)
        assert reply.accepted, f"{reply.code}: {reply.message} (seen {reply.seen}, wanted {reply.wanted})"
        return reply

    def wait(self, milliseconds: int) -> None:
        """Let time pass as a network does: a batch at each deadline on the way."""
        end_ms = self.now_ms + milliseconds
        while (due := self.ledger.due_ms()) is not None and due <= end_ms:
            self.now_ms = max(due, self.now_ms)
            before = self.ledger.state.digest
            self.batch()
            assert self.ledger.state.digest != before
        self.now_ms = end_ms
        self.batch()

    def wait_for(self, order_id: bytes, window: str) -> None:
        """Let time pass until the order is in this window."""
        for _ in range(40):
            if self.order(order_id).window == window:
                return
            due = self.ledger.due_ms()
            assert due is not None, f"nothing is due, but the order is in {self.order(order_id).window}"
            self.now_ms = max(due, self.now_ms)
            self.batch()
        raise AssertionError(f"the order never came to {window}")

    def order(self, order_id: bytes) -> OrderState:
        """The order's state."""
        return self.ledger.state.orders[order_id]

    # --- chain ------------------------------------------------------------------------------------------------
    def chain(self, *events: ChainEvent, witnesses: int | None = None) -> None:
        """f+1 (or `witnesses`) aggregators attest chain events."""
        first = self.chain_events
        count = self.ledger.book.faulty + 1 if witnesses is None else witnesses
        for aggregator in self.aggregators[:count]:
            self.must(aggregator, Attest(first, events))
        if count > self.ledger.book.faulty:
            self.chain_events += len(events)

    def stake(self, identity: Identity, role: Role, grains: int = 200 * POT) -> None:
        """Stake on the chain and register."""
        self.chain(
            ChainEvent(
                kind="staked",
                block=1,
                log_index=0,
                account=identity.address,
                role=int(role),
                amount_grains=grains,
                subject=b"",
                detail=(grains,),
            )
        )
        self.must(identity, Register(int(role)))

    def escrow(self, order: OrderRecord) -> None:
        """Place the order's money on the chain."""
        detail = (order.fee_grains, order.bond_grains, order.seal_by_s, order.nonce)
        self.chain(
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

    # --- orders -----------------------------------------------------------------------------------------------
    def new_order(self, **changes: Any) -> OrderRecord:
        """A complete order; `changes` replace fields."""
        nonce = changes.pop("nonce", len(self.shares) + 1)
        client = changes.pop("client", self.client.address)
        secret = sha256(b"test key %d" % nonce)
        root, n = sha256(b"root %d" % nonce), len(self.aggregators)
        binding = sealing_binding(self.network_id, client, nonce, root)
        shares = split(secret, correct(n), n, deterministic_bytes(f"{nonce}"))
        test = TestData(
            link=link("test"),
            root=root,
            plain_digest=sha256(b"plain"),
            plain_bytes=1_000,
            examples=100,
            key_commitment=key_commitment(binding, secret),
            share_commitments=tuple(share_commitment(binding, share) for share in shares),
            # no real boxes, whose bytes are new in each run: with the order's id every draw would be, too
            sealed_shares=tuple(hashlib.shake_256(b"box %d %d" % (nonce, i)).digest(97) for i in range(n)),
        )
        bond = max(2 * POT, self.parameters.client_bond_grains(changes.get("reward_grains", 25 * POT)))
        fields: dict[str, Any] = {
            "network_id": self.network_id, "client": client, "nonce": nonce,
            "seal_by_s": self.now_ms // 1000 + 10_000_000,
            "reward_grains": 25 * POT, "fee_grains": POT, "bond_grains": bond, "model": link("graph"),
            "weights": link("weights"), "train": link("train"), "test": test, "score": ScoreSpec("accuracy", 1),
            "windows": WINDOWS, "claim_bond_grains": POT,
            "baseline_total": 0, "baseline_count": 0, "margin_micro": 0, "title": "digits",
        }  # fmt: skip
        order = OrderRecord(**{**fields, **changes})
        self.keys[order.id], self.shares[order.id] = secret, shares
        return order

    def have_validators(self) -> None:
        """Stake as many validators as an order needs, if they are not there yet."""
        for number in range(self.parameters.min_validators - len(self.ledger.book.active[Role.VALIDATOR])):
            self.stake(key(f"bystander {number}"), Role.VALIDATOR)

    def start(self, **changes: Any) -> tuple[bytes, OrderRecord]:
        """Put an order and fund it, on a network that has the validators it needs."""
        self.have_validators()
        order = self.new_order(**changes)
        self.must(self.client, Put(order))
        self.escrow(order)
        assert self.order(order.id).window == "commit"
        return order.id, order

    def claim(self, order_id: bytes, provider: Identity, model: str) -> Reply:
        """Commit to a model, named by a word."""
        return self.submit(provider, self.claim_of(order_id, provider, self.sealed(order_id, provider, model)))

    def claim_of(self, order_id: bytes, provider: Identity, model: SealedModel) -> Claim:
        """A provider's commitment to a sealed model."""
        blob = HeldBlob(model.ciphertext.digest, model.ciphertext.size_bytes)
        commitment = claim_commitment(
            self.network_id, order_id, provider.address, model.mid, blob, model.boxes.root, model.salt
        )
        return Claim(order_id, commitment)

    def sealed(self, order_id: bytes, provider: Identity, model: str) -> SealedModel:
        """A model that is named by a word; its ciphertext is at the link of this name."""
        return self.seal(
            order_id, provider, self.mid(order_id, model), link(model), sha256(model.encode()), salt(model)
        )

    def seal(
        self, order_id: bytes, provider: Identity, mid: bytes, ciphertext: Link, key: bytes, salt: bytes
    ) -> SealedModel:
        """Seal the key of a model's ciphertext to the aggregators that hold the order's test key; once for each."""
        name = order_id, provider.address, mid
        if name not in self._models:
            binding = model_binding(self.network_id, order_id, provider.address, ciphertext.digest)
            members = self.ledger.state.sets[self.order(order_id).sealed_to]
            holders = [BoxHolder(each.address, each.sealing_public) for each in members]
            n, source = len(holders), name[0].hex() + name[1].hex() + name[2].hex()
            boxes = seal_key(key, binding, holders, correct(n), deterministic_bytes(source))
            shares = split(key, correct(n), n, deterministic_bytes(source))
            self._models[name] = SealedModel(mid, ciphertext, boxes, shares, salt)
        return self._models[name]

    def reveal(self, order_id: bytes, provider: Identity, model: str) -> Reply:
        """Open a claim."""
        return self.submit(provider, self.reveal_of(order_id, self.sealed(order_id, provider, model)))

    def reveal_of(self, order_id: bytes, model: SealedModel) -> RevealModel:
        """What opens a claim to a sealed model."""
        return RevealModel(
            order_id=order_id, mid=model.mid, ciphertext=model.ciphertext, boxes=model.boxes, salt=model.salt
        )

    def mid(self, order_id: bytes, model: str) -> bytes:
        """The model's id."""
        return model_id(self.order(order_id).order.model.digest, link(model).digest)

    def release(self, order_id: bytes, count: int | None = None) -> None:
        """Aggregators release their shares of the test key; without `count` also of the models' keys, and judge."""
        for index in range(correct(len(self.aggregators)) if count is None else count):
            self.must(self.aggregators[index], ReleaseShare(order_id, self.shares[order_id][index]))
        if count is None:
            self.prove(order_id)

    def prove(self, order_id: bytes) -> None:
        """Aggregators find the test data right, open all models, and find them right."""
        self.judge(order_id)
        self.open_models(order_id)
        for claim in list(self.order(order_id).claims.values()):
            self.judge(order_id, claim.mid)

    def judge(self, order_id: bytes, mid: bytes = b"", *, right: bool = True) -> None:
        """f+1 aggregators that may judge say whether the test data, or a model, opened to what was promised."""
        order, book = self.order(order_id), self.ledger.book
        able = [each for each in self.aggregators if each.address in book.members]
        able = [each for each in able if may_judge(order, book.state.keys[each.address])]
        for aggregator in able[: book.faulty + 1]:
            self.must(aggregator, Verdict(order_id, opening_name(self.network_id, order_id, mid), right))

    def right(self, order_id: bytes) -> Verdict:
        """That the test data opened to what was promised."""
        return Verdict(order_id, opening_name(self.network_id, order_id), True)

    def model_shares(self, order_id: bytes, place: int) -> ReleaseModelShares:
        """A holder's shares of all models that are not open yet."""
        items = [
            ModelShare(each.provider, self._share_of(order_id, each.provider, each.mid, each.sealed, place))
            for each in self.order(order_id).claims.values()
            if each.sealed is not None and not each.sealed.key
        ]
        return ReleaseModelShares(order_id, tuple(items))

    def _share_of(self, order_id: bytes, provider: bytes, mid: bytes, sealed: SealedModelState, place: int) -> Share:
        known = self._models.get((order_id, provider, mid))
        if known is not None:
            return known.shares[place]
        assert sealed.boxes is not None
        account = self.ledger.state.sets[self.order(order_id).sealed_to][place].address
        binding = model_binding(self.network_id, order_id, provider, sealed.ciphertext.digest)
        box, key = sealed.boxes.boxes[place], self.sealing[place]
        return open_model_share(box, key, binding=binding, holder=account, place=place)

    def open_models(self, order_id: bytes) -> None:
        """Enough holders release their shares of the models' keys."""
        needed = correct(len(self.ledger.state.sets[self.order(order_id).sealed_to]))
        for place, holder in list(self.holders(order_id).items())[:needed]:
            self.must(holder, self.model_shares(order_id, place))

    def opened(self, order_id: bytes, validator: Identity, model: str, total: int, *, count: int = 100) -> OpenedScore:
        """What a validator opens for a model that got `total` of `count`."""
        tree = leaves(total, count)
        return OpenedScore(
            mid=self.mid(order_id, model),
            score=ClaimScore(total, count, model not in self.invalid),
            transcript_root=tree.root,
            top=tree.top,
            transcript=link("transcript"),
            salt=salt(model),
        )

    def commit_scores(self, order_id: bytes, validator: Identity, scores: dict[str, int]) -> Reply:
        """Commit to scores of models by name."""
        items = []
        for model, total in scores.items():
            opened = self.opened(order_id, validator, model, total)
            items.append(ScoreCommitment(opened.mid, self.commitment(order_id, validator, opened)))
        return self.submit(validator, CommitScores(order_id, tuple(items)))

    def commitment(self, order_id: bytes, validator: Identity, opened: OpenedScore) -> bytes:
        """What a validator commits to before it opens this."""
        return validation_commitment(
            self.network_id,
            order_id,
            opened.mid,
            validator.address,
            opened.score,
            opened.transcript_root,
            opened.salt,
        )

    def open_scores(self, order_id: bytes, validator: Identity, scores: dict[str, int]) -> Reply:
        """Open scores of models by name."""
        items = [self.opened(order_id, validator, model, total) for model, total in scores.items()]
        return self.submit(validator, OpenScores(order_id, tuple(items)))

    def open_scores_at(self, order_id: bytes, validator: Identity, scores: dict[str, int], transcript: Link) -> None:
        """Open scores whose transcripts are at this link."""
        items = [
            structs.replace(self.opened(order_id, validator, model, total), transcript=transcript)
            for model, total in scores.items()
        ]
        self.must(validator, OpenScores(order_id, tuple(items)))

    def challenge(
        self,
        order_id: bytes,
        challenger: Identity,
        validator: Identity,
        model: str,
        index: int,
        role: Role = Role.PROVIDER,
    ) -> Challenge:
        """A challenger's commitment to one example of a validator's score."""
        vid = validation_id(self.network_id, order_id, self.mid(order_id, model), validator.address)
        commitment = challenge_commitment(
            self.network_id, order_id, challenger.address, vid, index, salt(f"challenge {index}")
        )
        return Challenge(order_id, int(role), commitment)

    def open_challenge(self, order_id: bytes, validator: Identity, model: str, total: int, index: int) -> OpenChallenge:
        """The leaf that a challenger shows of a validator who opened `total`."""
        tree = leaves(total)
        return OpenChallenge(
            order_id=order_id,
            mid=self.mid(order_id, model),
            validator=validator.address,
            leaf=int(index < total),
            leaves_total=tree.total,
            proof=tree.proof(index),
            salt=salt(f"challenge {index}"),
        )

    def assigned(self, order_id: bytes, validator: Identity) -> list[bytes]:
        """Models that the validator was drawn for."""
        order = self.order(order_id)
        return [claim.mid for claim in order.claims.values() if validator.address in order.seats_of(claim)]

    def sign_epoch(self, count: int | None = None) -> None:
        """Aggregators sign the pending settlement."""
        pending = self.ledger.state.pending
        assert pending is not None
        digest = settlement_digest(self.genesis.chain_id, self.genesis.settlement_contract, pending.settlement)
        for aggregator in self.aggregators[: self.ledger.book.quorum if count is None else count]:
            self.must(
                aggregator, SignEpoch(pending.settlement.epoch, pending.settlement.round, aggregator.sign(digest))
            )

    def settle(self) -> None:
        """The chain confirms the pending settlement."""
        pending = self.ledger.state.pending
        assert pending is not None
        s = pending.settlement
        self.chain(
            ChainEvent(
                kind="settled",
                block=9,
                log_index=0,
                account=bytes(20),
                role=-1,
                amount_grains=s.cumulative_total,
                subject=s.root,
                detail=(s.epoch, s.round, s.signer_set_id),
            )
        )


def state_in(snapshot: bytes) -> LedgerState:
    """The state in a ledger's snapshot."""
    raw = decode(snapshot, LedgerSnapshot, limit_bytes=1 << 30).state
    return decode(raw, LedgerState, limit_bytes=1 << 30)


def snapshot_of(state: LedgerState) -> bytes:
    """A ledger's snapshot with this state."""
    now = state.governance
    return encode(LedgerSnapshot(version=now.version, install=now.install, state=encode(state)))


@functools.cache
def leaves(total: int, count: int = 100) -> SumTree:
    """The transcript of a model that got the first `total` examples right."""
    return SumTree([1] * total + [0] * (count - total))


def salt(model: str) -> bytes:
    """A salt that is the same in every run."""
    return sha256(b"salt" + model.encode())


def link(name: str) -> Link:
    """A link to a blob that nobody needs to have."""
    return Link(sha256(name.encode()), 1_000, f"https://example.org/{name}")
