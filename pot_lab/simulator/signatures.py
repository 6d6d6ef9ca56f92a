"""What a run changes in the rooms that it simulates: nothing that can be seen from outside.

Signatures are all real, and none is made or checked twice.

A run has all its replicas in one process, and each of them checks the same votes and transactions. ECDSA with RFC 6979
nonces is a function of key and digest, and recovery one of digest and signature, so remembering their results changes
nothing but the time: a run with this memory and one without have the same trace (a test holds them to it). Chunks of
snapshots are small, so that the ledger of a short run has several.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pot_lab.consensus import checkpoint
from pot_lab.crypto import identity
from pot_lab.crypto.identity import Identity

SMALL_CHUNK_BYTES = 4_096
_LIMIT = 200_000
_ROOMS = ("pot_lab.consensus.", "pot_lab.protocol.")

_recovered: dict[tuple[bytes, bytes], bytes] = {}
_signed: dict[tuple[bytes, bytes], bytes] = {}


class Signer(Identity):
    """An identity that remembers what it has signed, and that it was the one."""

    __slots__ = ()

    def sign(self, digest: bytes) -> bytes:
        """Sign a 32-byte digest, as `Identity.sign` does."""
        signature = _signed.get((self.address, digest))
        if signature is None:
            signature = _signed[self.address, digest] = super().sign(digest)
            _recovered[digest, signature] = self.address
        return signature


def recover(digest: bytes, signature: bytes) -> bytes:
    """The address that signed, as `crypto.identity.recover` finds it; raises BadSignature."""
    address = _recovered.get((digest, signature))
    if address is None:
        address = _recovered[digest, signature] = identity.recover(digest, signature)
    return address


@contextmanager
def remembered() -> Iterator[None]:
    """While this lasts, the rules and the replicas look signatures up before they compute them."""
    if len(_signed) > _LIMIT or len(_recovered) > _LIMIT:
        _signed.clear()
        _recovered.clear()
    with _everywhere("recover", identity.recover, recover):
        yield


@contextmanager
def small_chunks() -> Iterator[None]:
    """While this lasts, snapshots travel in chunks so small that those of a short run have several."""
    with _everywhere("CHUNK_BYTES", checkpoint.CHUNK_BYTES, SMALL_CHUNK_BYTES):
        yield


@contextmanager
def _everywhere(name: str, usual: object, other: object) -> Iterator[None]:
    """Put something else under a name into all modules of the rooms that have the usual thing there."""
    places = [
        module
        for room, module in sorted(sys.modules.items())
        if room.startswith(_ROOMS) and getattr(module, name, None) is usual
    ]
    for module in places:
        setattr(module, name, other)
    try:
        yield
    finally:
        for module in places:
            setattr(module, name, usual)
