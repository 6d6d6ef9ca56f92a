"""A reply with its proof convinces whoever knows the addresses, and nothing else does."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.consensus.messages import request_digest
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.proof import BadProof, NoProof, ReplyProof, assemble, verify
from tests.consensus.cluster import NETWORK_ID, Cluster, make_request


def network(n: int = 4, parameters: ConsensusParameters | None = None) -> tuple[Cluster, list[bytes]]:
    cluster = Cluster(n, parameters=parameters)
    requests = [make_request(account, 0) for account in range(9)]
    for request in requests:
        cluster.submit(request)
    cluster.run(500)
    return cluster, requests


def parts_of(cluster: Cluster, request: bytes) -> list[ReplyProof]:
    return [node.replica.prove(request_digest(request)) for node in cluster.nodes]


@pytest.mark.parametrize("n", [4, 6, 7])
def test_every_reply_of_a_batch_can_be_proved_with_q_parts(n: int) -> None:
    cluster, requests = network(n)
    q = cluster.nodes[0].replica.q
    for request in requests:
        parts = parts_of(cluster, request)
        assert assemble(parts[: q - 1], NETWORK_ID, cluster.addresses) is None
        proof = assemble(parts[-q:], NETWORK_ID, cluster.addresses)
        assert proof is not None
        assert (
            verify(proof, NETWORK_ID, cluster.addresses, request) == cluster.replies[request_digest(request)][0].reply
        )


def test_a_proof_of_something_else_is_refused() -> None:
    cluster, requests = network()
    proof = assemble(parts_of(cluster, requests[3]), NETWORK_ID, cluster.addresses)
    assert proof is not None
    change = msgspec.structs.replace
    some = proof.attestations
    changed = [
        change(proof, reply=b"done 99"),
        change(proof, header=change(proof.header, replies=b"r" * 32)),
        change(proof, header=change(proof.header, sequence=proof.header.sequence + 1)),
        change(proof, header=change(proof.header, application=b"a" * 32)),
        change(proof, path=change(proof.path, index=proof.path.index + 1)),
        change(proof, attestations=some[:-1]),
        change(proof, attestations=some[:-1] + some[:1]),
        change(proof, attestations=(*some[:-1], change(some[-1], replica=(some[-1].replica + 1) % 4))),
    ]
    for wrong in changed:
        with pytest.raises(BadProof):
            verify(wrong, NETWORK_ID, cluster.addresses, requests[3])
    with pytest.raises(BadProof):
        verify(proof, NETWORK_ID, cluster.addresses, requests[4])
    with pytest.raises(BadProof):
        verify(proof, bytes(32), cluster.addresses, requests[3])
    with pytest.raises(BadProof):
        verify(proof, NETWORK_ID, cluster.addresses[::-1], requests[3])


def test_parts_that_lie_are_left_out() -> None:
    cluster, requests = network()
    parts = parts_of(cluster, requests[0])
    parts[0] = msgspec.structs.replace(parts[0], reply=b"done 50")
    proof = assemble([*parts, parts[1]], NETWORK_ID, cluster.addresses)
    assert proof is not None and [each.replica for each in proof.attestations] == [1, 2, 3]
    assert assemble([parts[0], parts[1], parts[1], parts[2]], NETWORK_ID, cluster.addresses) is None


def test_what_never_ran_or_ran_long_ago_has_no_proof() -> None:
    cluster, requests = network(parameters=ConsensusParameters(cached_replies=5))
    with pytest.raises(NoProof):
        cluster.nodes[0].replica.prove(request_digest(b"never"))
    with pytest.raises(NoProof):
        cluster.nodes[0].replica.prove(request_digest(requests[0]))
