"""What reads which kind of address."""

from __future__ import annotations

import os

from pot_lab.store.addresses import HTTP_SCHEMES, scheme_of
from pot_lab.store.errors import UnusableAddress
from pot_lab.store.transport import BlobSource, FileSource

GATEWAY = "IPFS_GATEWAY"
"""The environment's name for the address of an HTTP gateway to IPFS, best of one's own node."""


def source_of(
    uri: str,
    offset: int,
    timeout_s: float,
    credentials: str | None = None,
    *,
    private: bool = True,
    signed: bool = False,
) -> BlobSource:
    """A reader of this address from `offset`, not opened yet.

    Args:
        uri: the blob's address.
        offset: the first byte to read.
        timeout_s: bounds each wait, not the whole.
        credentials: `user:password` for an HTTP address.
        private: whether the address may be of this host or of a private network.
        signed: whether an object storage is asked with the user's own credentials.
    Raises:
        UnusableAddress: an `ipfs` address, and no gateway is named.
    """
    scheme = scheme_of(uri)
    if scheme not in (*HTTP_SCHEMES, "ipfs"):
        return FileSource(uri, offset, signed=signed)
    from pot_lab.store.http_transport import HttpSource  # the blob server does without urllib3, for memory's sake

    if scheme == "ipfs":  # a gateway is the user's own choice, wherever it is
        uri, private, credentials = _through_gateway(uri), True, None
    return HttpSource(uri, offset, timeout_s, credentials, private=private)


def _through_gateway(uri: str) -> str:
    gateway = os.environ.get(GATEWAY, "").rstrip("/")
    if not gateway:
        raise UnusableAddress(
            "links to IPFS are read through a gateway, and none is named",
            seen=uri,
            wanted=f"{GATEWAY}=http://127.0.0.1:8080",
        )
    return f"{gateway}/ipfs/{uri.partition('://')[2]}"
