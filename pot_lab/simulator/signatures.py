"""Signatures of a run: all real, and none made or checked twice.

A run has all its replicas in one process, and each of them checks the same votes and transactions. ECDSA with RFC 6979
nonces is a function of key and digest, and recovery one of digest and signature, so remembering their results changes
nothing but the time: a run with this memory and one without have the same trace (a test holds them to it). `Signer` is
the identity of everybody in a run, and replicas and ledgers are given `recover`.
"""

from __future__ import annotations

from pot_lab.crypto import identity
from pot_lab.crypto.identity import Address, Identity

_LIMIT = 200_000

_recovered: dict[tuple[bytes, bytes], Address] = {}
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


def recover(digest: bytes, signature: bytes) -> Address:
    """The address that signed, as `crypto.identity.recover` finds it; raises BadSignature."""
    address = _recovered.get((digest, signature))
    if address is None:
        address = _recovered[digest, signature] = identity.recover(digest, signature)
    return address


def limit_memory() -> None:
    """Forget everything once there is too much of it; called before each run."""
    if len(_signed) > _LIMIT or len(_recovered) > _LIMIT:
        _signed.clear()
        _recovered.clear()
