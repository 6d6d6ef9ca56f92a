"""Signatures in a run: all real, none made or checked twice.

A run has all its replicas in one process, and each of them checks the same votes and transactions. ECDSA with RFC 6979
nonces is a function of key and digest, and recovery one of digest and signature, so remembering their results changes
nothing but the time: a run with this memory and one without have the same trace (a test holds them to it).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pot_lab.crypto import identity
from pot_lab.crypto.identity import Identity

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
    places = [
        module
        for name, module in sorted(sys.modules.items())
        if name.startswith(_ROOMS) and getattr(module, "recover", None) is identity.recover
    ]
    for module in places:
        module.recover = recover  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in places:
            module.recover = identity.recover  # type: ignore[attr-defined]
