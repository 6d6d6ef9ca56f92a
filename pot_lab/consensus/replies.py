"""The last replies, so a retry is answered and never run twice.

Which replies are kept follows from the executed batches alone, so the cache is equal on all replicas and part of their
state: the oldest leave first, by count and by bytes. A repetition older than that reaches the application, whose nonces
refuse it.
"""

from __future__ import annotations

from collections import OrderedDict

from pot_lab.crypto.canonical import Record, decode, encode


class CachedReply(Record, frozen=True, kw_only=True):
    """What a request was answered, and in which batch it ran."""

    digest: bytes
    sequence: int
    time_ms: int
    reply: bytes


class ReplyCache:
    """Replies by request digest, oldest first.

    Args:
        limit_replies, limit_bytes: the most it keeps; one reply larger than `limit_bytes` is kept alone.
    """

    def __init__(self, limit_replies: int, limit_bytes: int) -> None:
        self._limits = limit_replies, limit_bytes
        self._replies: OrderedDict[bytes, CachedReply] = OrderedDict()
        self._size_bytes = 0

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, digest: bytes) -> CachedReply | None:
        """The reply to the request of this digest, if it is still kept."""
        return self._replies.get(digest)

    def of(self, sequence: int) -> list[CachedReply]:
        """The kept replies of one batch, in its order."""
        return [reply for reply in self._replies.values() if reply.sequence == sequence]

    def put(self, reply: CachedReply) -> None:
        """Keep the reply of a request that was just executed (its digest is not here yet)."""
        limit_replies, limit_bytes = self._limits
        self._replies[reply.digest] = reply
        self._size_bytes += len(reply.reply)
        while len(self._replies) > limit_replies or (self._size_bytes > limit_bytes and len(self._replies) > 1):
            _, oldest = self._replies.popitem(last=False)
            self._size_bytes -= len(oldest.reply)

    def snapshot(self) -> bytes:
        """All kept replies, oldest first, as canonical bytes."""
        return encode(tuple(self._replies.values()))

    def restore(self, snapshot: bytes, *, limit_bytes: int) -> None:
        """Replace the cache by a snapshot's; raises Malformed or Oversize."""
        replies: tuple[CachedReply, ...] = decode(snapshot, tuple[CachedReply, ...], limit_bytes=limit_bytes)
        self._replies.clear()
        self._size_bytes = 0
        for reply in replies:
            self.put(reply)
