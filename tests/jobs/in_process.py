"""Mining loops without processes or sockets: a real ledger behind a client in this process, jobs run by the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pot_lab.crypto.canonical import Record, decode, encode, sha256
from pot_lab.crypto.cipher import decrypt, encrypt
from pot_lab.crypto.identity import Address, Identity
from pot_lab.crypto.sealed_model import model_binding, model_key, open_model_share
from pot_lab.jobs.errors import JobExists, UnknownJob
from pot_lab.jobs.registry import JobState
from pot_lab.network.client.ledger import refusal
from pot_lab.protocol import views
from pot_lab.protocol.cycle import Window
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import OrderRecord, model_id
from pot_lab.protocol.state import Event, Member
from pot_lab.protocol.transactions import Put, Reply, RevealModel
from pot_lab.store import Store
from tests.protocol.world import SealedModel, World

LIMIT_BYTES = 64 << 20


class Market(World):
    """A world that pushes the events of each batch to whoever follows it."""

    def __init__(self) -> None:
        super().__init__()
        self.followers: list[Callable[[int, int, list[Event]], None]] = []

    def settle_all(self) -> None:
        """Let the pending epoch come, be signed, and be confirmed by the chain."""
        self.wait(self.parameters.update_ms + 100)
        self.sign_epoch()
        self.settle()

    def ordered(self, *requests: bytes) -> list[Reply]:
        before = len(self.events)
        replies = super().ordered(*requests)
        for follower in list(self.followers):
            follower(self.ledger.state.sequence, self.now_ms, self.events[before:])
        return replies

    def place(self, store: Store, *, files: Mapping[str, bytes], **changes: Any) -> bytes:
        """Put and fund an order whose blobs (graph, weights, train, test) are in the store; returns its id."""
        self.have_validators()
        draft = self.new_order(**changes)
        secret, shares = self.keys.pop(draft.id), self.shares.pop(draft.id)
        test = msgspec.structs.replace(
            draft.test,
            link=store.put(encrypt(secret, files["test"])),
            plain_digest=sha256(files["test"]),
            plain_bytes=len(files["test"]),
        )
        links = {name: store.put(files[key]) for name, key in (("model", "graph"), ("weights",) * 2, ("train",) * 2)}
        order: OrderRecord = msgspec.structs.replace(draft, test=test, **links)
        self.keys[order.id], self.shares[order.id] = secret, shares
        self.must(self.client, Put(order))
        self.escrow(order)
        return order.id

    def seal_file(self, store: Store, order_id: bytes, provider: Identity, plain: bytes, salt: bytes) -> SealedModel:
        """A model whose ciphertext is in the store."""
        key = sha256(b"key of " + plain)
        mid = model_id(self.order(order_id).order.model.digest, sha256(plain))
        return self.seal(order_id, provider, mid, store.put(encrypt(key, plain)), key, salt)

    def read_model(self, store: Store, provider: Identity, body: RevealModel) -> bytes:
        """What a revealed model opens to, with the shares of all aggregators."""
        binding = model_binding(self.network_id, body.order_id, provider.address, body.ciphertext.digest)
        shares = [
            open_model_share(box, self.sealing[place], binding=binding, holder=who.address, place=place)
            for place, (box, who) in enumerate(zip(body.boxes.boxes, self.aggregators, strict=True))
        ]
        key = model_key(shares, threshold=3, binding=binding, commitment=body.boxes.key_commitment)
        return decrypt(key, store.fetch(body.ciphertext, limit_bytes=1_000, timeout_s=60))


class _Following:
    def __init__(self, market: Market, callback: Callable[[int, int, list[Event]], None]) -> None:
        self._market, self._callback = market, callback
        market.followers.append(callback)

    def close(self) -> None:
        self._market.followers.remove(self._callback)


class InProcessClient:
    """The loops' face of a ledger; what was read stands in `read`, what was submitted in `submitted`."""

    def __init__(self, market: Market, identity: Identity) -> None:
        self.identity: Identity | None = identity
        self.network_id = market.network_id
        self.market = market
        self.read: list[str] = []
        self.submitted: list[Record] = []
        self.failing: Exception | None = None
        self.failing_submit: Exception | None = None

    def _ask(self, name: str, arguments: Record | None, kind: Any) -> Any:
        self.read.append(name)
        if self.failing is not None:
            raise self.failing
        raw = encode(arguments) if arguments is not None else b""
        return decode(query(self.market.ledger, name, raw), kind, limit_bytes=LIMIT_BYTES)

    def submit(self, body: Record) -> Reply:
        if self.failing_submit is not None:
            raise self.failing_submit
        assert self.identity is not None
        self.submitted.append(body)
        reply = self.market.submit(self.identity, body)
        if not reply.accepted:
            raise refusal(reply)
        return reply

    def order(self, order_id: bytes) -> views.OrderView:
        return self._ask("order", views.OrderQuery(order_id), views.OrderView)

    def holders(self, order_id: bytes) -> list[Member]:
        return self._ask("holders", views.OrderQuery(order_id), list[Member])

    def orders_in(self, windows: tuple[Window, ...], assigned: bytes = b"") -> list[views.OrderSummary]:
        query = views.WindowsQuery(windows=windows, assigned=Address(assigned))
        return self._ask("orders_in", query, list[views.OrderSummary])

    def fetch_orders(self, limit: int = 100) -> list[views.OrderView]:
        return self._ask("fetch_orders", views.OrdersQuery(limit), list[views.OrderView])

    def account(self, address: bytes) -> views.AccountView:
        return self._ask("account", views.AccountQuery(address), views.AccountView)

    def network(self) -> views.NetworkView:
        return self._ask("network", None, views.NetworkView)

    def follow_new(self, callback: Callable[[int, int, list[Event]], None]) -> _Following:
        return _Following(self.market, callback)


class HeldJob:
    """A job that is in whatever state the test says."""

    def __init__(self, job_id: str, parameters: Mapping[str, Any], kind: str) -> None:
        self.id, self.parameters, self.kind = job_id, dict(parameters), kind
        self.state: JobState = "running"
        self.worked_s = 0.0
        self.error: dict[str, Any] | None = None
        self.is_stopped = True

    @property
    def workspace(self) -> Path:
        return Path(self.parameters["workspace"])

    def cancel(self, *, resumable: bool = False) -> None:
        self.state, self.is_stopped = "cancelled", not resumable


class HeldRunner:
    """A runner whose jobs do nothing by themselves; the test does the notebook's work in `job.workspace`."""

    def __init__(self) -> None:
        self.jobs: dict[str, HeldJob] = {}
        self.resumed: list[str] = []
        self.refusal: Exception | None = None
        self.prepared = self.released = 0

    def prepare(self) -> None:
        self.prepared += 1

    def release(self) -> None:
        self.released += 1

    def start(self, notebook: Path, parameters: Mapping[str, Any], *, kind: str, job_id: str) -> HeldJob:
        if self.refusal is not None:
            raise self.refusal
        if job_id in self.jobs:
            raise JobExists("there is a job of this id", seen=job_id)
        self.jobs[job_id] = HeldJob(job_id, parameters, kind)
        return self.jobs[job_id]

    def get(self, job_id: str) -> HeldJob:
        if job_id not in self.jobs:
            raise UnknownJob("there is no such job", seen=job_id)
        return self.jobs[job_id]

    def resume(self, job_id: str) -> HeldJob:
        self.resumed.append(job_id)
        self.jobs[job_id].state = "running"
        return self.jobs[job_id]

    @property
    def only(self) -> HeldJob:
        (job,) = self.jobs.values()
        return job


class Wallet:
    """A chain wallet that notes what is claimed, or fails."""

    def __init__(self) -> None:
        self.claimed: list[tuple[bytes, int]] = []
        self.failing: Exception | None = None

    def claim(self, account: bytes, cumulative_grains: int, proof: list[bytes]) -> None:
        self.claimed.append((account, cumulative_grains))
        if self.failing is not None:
            raise self.failing
