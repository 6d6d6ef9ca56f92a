"""Signed records of the sizes in the paper's Table 3, and the application that keeps them.

The paper's aggregators synchronise a pool of orders, validations and challenges. This is only that pool: each
record carries its account's signature, which every replica checks; an account's nonces grow; the state is a chain of
digests. The real ledger's records are larger than Table 3's, so sizes like the paper's need an application of their
own.
"""

from __future__ import annotations

from collections import OrderedDict

from pot_lab.agreement.application import Batch, Execution, RequestId
from pot_lab.crypto.canonical import Record, decode, encode, tagged_hash
from pot_lab.crypto.identity import ADDRESS_BYTES, SIGNATURE_BYTES, BadSignature, Identity, format_address, recover
from pot_lab.errors import Malformed, PotLabError

ORDER_BYTES, VALIDATION_BYTES, CHALLENGE_BYTES = 312, 304, 296
"""Table 3: the sizes of an order, a validation and a challenge, signature included."""
_SIZES = frozenset({ORDER_BYTES, VALIDATION_BYTES, CHALLENGE_BYTES})
_NONCE_BYTES = 8
_HEAD_BYTES = SIGNATURE_BYTES + ADDRESS_BYTES
_REMEMBERED = 4_096
_SNAPSHOT_BYTES = 1 << 30
_TAG = "pot-lab/bench/record/1"


class _State(Record, frozen=True):
    """A snapshot: how many records there are, each account's last nonce, and the chain of digests."""

    count: int
    nonces: tuple[tuple[bytes, int], ...]
    digest: bytes


class UnknownQuestion(PotLabError):
    """A pool of records has no such query.

    What to do: ask for one of the queries that the message lists.
    """


def signed_record(network_id: bytes, identity: Identity, nonce: int, size_bytes: int) -> bytes:
    """A record of `size_bytes` (one of Table 3's) that `identity` signed: signature, account, nonce, content."""
    body = (identity.address + nonce.to_bytes(_NONCE_BYTES, "big")).ljust(size_bytes - SIGNATURE_BYTES, b"\x5a")
    return identity.sign(tagged_hash(_TAG, network_id, body)) + body


class RecordPool:
    """The application of a measuring network.

    A signature is checked once, at admission, and remembered, as the ledger's application does.
    """

    def __init__(self, network_id: bytes) -> None:
        self._network_id = network_id
        self._opened: OrderedDict[bytes, tuple[RequestId, bytes]] = OrderedDict()
        self._nonces: dict[bytes, int] = {}
        self._count = 0
        self._digest: bytes = tagged_hash(_TAG, network_id)

    def validate(self, request: bytes) -> RequestId:
        """Check size and signature; raises Malformed or BadSignature."""
        return self._authenticated(request)[0]

    def _authenticated(self, request: bytes) -> tuple[RequestId, bytes]:
        """Whose record it is, and the digest that was signed; remembered."""
        found = self._opened.get(request)
        if found is None:
            found = self._opened[request] = self._open(request)
            if len(self._opened) > _REMEMBERED:
                self._opened.popitem(last=False)
        return found

    def _open(self, request: bytes) -> tuple[RequestId, bytes]:
        if len(request) not in _SIZES:
            raise Malformed("not the size of a record in Table 3", seen=f"{len(request)} bytes", wanted=sorted(_SIZES))
        account = request[SIGNATURE_BYTES:_HEAD_BYTES]
        digest = tagged_hash(_TAG, self._network_id, request[SIGNATURE_BYTES:])
        signer = recover(digest, request[:SIGNATURE_BYTES])
        if signer != account:
            raise BadSignature(
                "a record was not signed by its account", seen=format_address(signer), wanted=format_address(account)
            )
        return RequestId(account, int.from_bytes(request[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES], "big")), digest

    def execute(self, batch: Batch) -> Execution:
        """Add the batch's records to the pool: each gets its number, or the refusal of a nonce that does not grow."""
        replies, added = [], []
        for request in batch.requests:
            record, digest = self._authenticated(request)
            if record.nonce <= self._nonces.get(record.account, -1):
                replies.append(b"refused: nonce")
                continue
            self._nonces[record.account] = record.nonce
            self._count += 1
            replies.append(b"%d" % self._count)
            added.append(digest)
        self._digest = tagged_hash(_TAG, self._digest, *added)
        return Execution(tuple(replies), tuple(added), self._digest)

    def due_ms(self) -> int | None:
        """None: a pool has no deadlines."""
        return None

    def seats(self) -> None:
        """None: the set of aggregators never changes."""

    def query(self, name: str, arguments: bytes) -> bytes:
        """Answer `count`: how many records there are, in decimal; raises UnknownQuestion."""
        if name != "count":
            raise UnknownQuestion("a pool of records has no such query", seen=name, wanted="count")
        return b"%d" % self._count

    def snapshot(self) -> bytes:
        """The whole state in canonical bytes."""
        return encode(_State(self._count, tuple(sorted(self._nonces.items())), self._digest))

    def restore(self, snapshot: bytes) -> None:
        """Replace the state by a snapshot's; raises Malformed."""
        state = decode(snapshot, _State, limit_bytes=_SNAPSHOT_BYTES)
        self._count, self._nonces, self._digest = state.count, dict(state.nonces), state.digest
