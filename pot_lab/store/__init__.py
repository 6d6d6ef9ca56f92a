"""Content-addressed blobs behind links: whatever is big travels here, and whoever downloads checks.

A blob's name is its SHA-256, so any store may hold it and none need be trusted. The room knows nothing of the protocol:
it moves bytes under a size cap, a time cap and a hash.
"""

from pot_lab.crypto.link import Link
from pot_lab.errors import PortTaken
from pot_lab.store.blobs import Store, fetch
from pot_lab.store.errors import (
    LinkDead,
    MissingExtra,
    StoreBusy,
    StoreFull,
    TooBig,
    TooSlow,
    UnusableAddress,
    WrongHash,
)

__all__ = [
    "Link",
    "Store",
    "fetch",
    "LinkDead",
    "WrongHash",
    "TooBig",
    "TooSlow",
    "StoreFull",
    "MissingExtra",
    "UnusableAddress",
    "PortTaken",
    "StoreBusy",
]
