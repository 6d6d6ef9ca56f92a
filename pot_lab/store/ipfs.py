"""A store on IPFS: blobs are added to one's own node, by its HTTP API, and links name them by content.

What it asks of a node is the contract of Kubo's RPC API, `/api/v0/add`; it was tested against a server that keeps this
contract, not against a node. Reading goes through a gateway (`sources`).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from pot_lab.store.errors import LinkDead
from pot_lab.store.transport import CHUNK_BYTES

_ANSWER_LIMIT_BYTES = 65_536
_CID = re.compile(r"[A-Za-z0-9]{40,120}\Z")


class IpfsNode:
    """A node's HTTP API.

    Args:
        url: its address, such as `http://127.0.0.1:5001`; it is for its owner alone.
        credentials: `user:password` for it.
    """

    def __init__(self, url: str, credentials: str | None = None) -> None:
        self._url, self._credentials = url, credentials

    def add(self, data: bytes | Path, timeout_s: float, *, keep: bool = True) -> str:
        """The address of a blob, which the node keeps and pins from now on, unless `keep` is False.

        Raises:
            LinkDead: the node does not answer, or not as the API asks.
            OSError: the file cannot be read.
        """
        boundary = secrets.token_hex(16)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        if self._credentials is not None:
            headers |= make_headers(basic_auth=self._credentials)
        asked = (
            f"cid-version=1&raw-leaves=true&pin={str(keep).lower()}&only-hash={str(not keep).lower()}&progress=false"
        )
        try:
            response = urllib3.PoolManager().request(
                "POST",
                f"{self._url}/api/v0/add?cid-version=1&raw-leaves=true&progress=false&{asked}",
                body=_parts(data, boundary),
                headers=headers,
                timeout=timeout_s,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer = response.read1(_ANSWER_LIMIT_BYTES)
            response.close()
        except HTTPError as error:
            raise LinkDead("the IPFS node does not answer", seen=f"{type(error).__name__} at {self._url}") from error
        cid = _cid_in(answer) if response.status == 200 else ""
        if not cid:
            seen = f"HTTP {response.status}: {answer[:80]!a}"
            raise LinkDead("the IPFS node did not add the blob", seen=seen, wanted="the answer of /api/v0/add")
        return f"ipfs://{cid}"


def _parts(data: bytes | Path, boundary: str) -> Iterator[bytes]:
    disposition = 'Content-Disposition: form-data; name="file"; filename="blob"'
    yield f"--{boundary}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    if isinstance(data, bytes):
        if data:  # an empty part would end a chunked body
            yield data
    else:
        with data.open("rb") as file:
            while part := file.read(CHUNK_BYTES):
                yield part
    yield f"\r\n--{boundary}--\r\n".encode()


def _cid_in(answer: bytes) -> str:
    try:
        named = json.loads(answer.strip().splitlines()[-1])["Hash"]
    except (ValueError, LookupError, TypeError):
        return ""
    return named if isinstance(named, str) and _CID.match(named) else ""
