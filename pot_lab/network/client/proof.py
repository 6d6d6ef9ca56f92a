"""Getting a proof of a reply from a network: each aggregator signs its part, and q equal parts make a proof.

The proof is then worth the same without the network (`consensus.proof.verify`).
"""

from __future__ import annotations

import time

from pot_lab.agreement.quorum import quorum
from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.proof import NoProof, ReplyProof, assemble
from pot_lab.crypto.canonical import decode
from pot_lab.errors import PotLabError
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import NetworkConfig

_PART_LIMIT_BYTES = 8 * 1024 * 1024
_ROUND_S = 1.0
_AGAIN_S = 0.2


def fetch_proof(client: NetworkClient, config: NetworkConfig, request: bytes, *, timeout_s: float = 10.0) -> ReplyProof:
    """Ask all aggregators to sign what `request` (its bytes, answered not long ago) was replied; blocks.

    The proof's `era` names the set that signed it: `client.membership` while it is the last one.

    Raises:
        NoProof: fewer than q of them gave the same signed answer in time.
    """
    digest, members = request_digest(request), client.membership
    deadline_s = time.monotonic() + timeout_s
    parts: dict[int, ReplyProof] = {}
    while True:
        if client.membership is not members:
            members, parts = client.membership, {}
        round_s = min(_ROUND_S, max(0.1, deadline_s - time.monotonic()))
        calls = [(i, client.ask(i, "proof", digest, timeout_s=round_s)) for i in range(members.n) if i not in parts]
        for index, call in calls:
            try:
                part = decode(call.result(2 * round_s), ReplyProof, limit_bytes=_PART_LIMIT_BYTES)
            except (PotLabError, TimeoutError):
                continue
            if part.era != members.since:
                continue
            parts[index] = part
            proof = assemble(parts.values(), config.network_id, members.addresses, era=members.since)
            if proof is not None:
                return proof
        if time.monotonic() + _AGAIN_S >= deadline_s:
            raise NoProof(
                "too few aggregators signed this reply alike",
                seen=f"aggregators {sorted(parts)}",
                wanted=f"{quorum(members.n)} aggregators",
            )
        time.sleep(_AGAIN_S)
