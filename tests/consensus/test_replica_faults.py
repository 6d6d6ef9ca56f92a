"""Random faults in virtual time: delay, reordering, duplication, loss, crashes with and without the last unsynced
records.

Whatever happens, replicas agree, nothing runs twice, and once the faults end everything asked for is answered.
"""

from __future__ import annotations

import pytest

from pot_lab.consensus.messages import Prepare, PrePrepare, decode_message
from pot_lab.consensus.parameters import ConsensusParameters
from tests.consensus.cluster import Cluster, make_request

ACCOUNTS, NONCES = 4, 12


@pytest.mark.parametrize("seed", range(60))
def test_replicas_agree_and_recover_whatever_happens(seed: int) -> None:
    n = (4, 4, 5, 6, 7)[seed % 5]
    parameters = ConsensusParameters(
        in_flight=1 + seed % 5, beside_requests=seed % 3 // 2, window=8 + seed % 9, inline_bytes=(0, 16_384)[seed % 2]
    )
    cluster = Cluster(n, seed, parameters)
    choose = cluster.random
    cluster.jitter_ms = choose.choice([0, 5, 60, 400])
    cluster.loss = choose.choice([0, 0.02, 0.15])
    cluster.duplication = choose.choice([0, 0.1, 0.5])
    for node in cluster.nodes:
        node.skew_ms = choose.randint(-200, 200)
    cluster.tamper = no_second_vote(cluster)

    requests = [make_request(account, nonce, bytes(choose.choice([0, 30, 3_000])))
                for nonce in range(NONCES) for account in range(ACCOUNTS)]  # fmt: skip
    down: list[int] = []
    for request in requests:
        everyone = choose.random() < 0.7
        cluster.submit(request, None if everyone else [choose.randrange(n)])
        cluster.run(choose.choice([0, 1, 10, 80]))
        if choose.random() < 0.15 and len(down) < cluster.nodes[0].replica.f:
            index = choose.choice([i for i in range(n) if i not in down])
            cluster.nodes[index].crash(keep_unsynced=choose.randint(0, 2))
            down.append(index)
        elif down and choose.random() < 0.25:
            cluster.nodes[down.pop(0)].start()

    cluster.loss = cluster.duplication = 0
    cluster.jitter_ms = 5
    for index in down:
        cluster.nodes[index].start()
    ordered = sorted(requests, key=lambda request: request[20:28])
    for request in ordered:
        cluster.submit(request)
        cluster.run(20)
    cluster.run_until(lambda: all(map(cluster.answered, requests)) and len(set(cluster.heights())) == 1)

    executed = [node.application.executed for node in cluster.nodes]
    assert executed == [executed[0]] * n
    assert len(set(executed[0])) == len(executed[0])
    assert not cluster.halts and not cluster.accusations
    for node in cluster.nodes:
        assert not len(node.replica.pool) and not node.replica.open_batches


def no_second_vote(cluster: Cluster):
    """A wire tap: no replica, through any number of lives, signs two digests for one step."""
    votes: dict[tuple[int, type, int, int], bytes] = {}

    def tap(sender: int, to: int, data: bytes) -> bytes:
        message = decode_message(data, limit_bytes=1 << 24)
        if isinstance(message, PrePrepare | Prepare):
            digest = b"".join(message.digests) if isinstance(message, PrePrepare) else message.digest
            author = 0 if isinstance(message, PrePrepare) else sender
            key = author, type(message), message.view, message.sequence
            assert votes.setdefault(key, digest) == digest
        return data

    return tap
