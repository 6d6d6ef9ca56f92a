"""The past ends at checkpoints: logs and memory stay small, and whoever trails far fetches the state."""

from __future__ import annotations

import msgspec
import pytest

from pot_lab.agreement.votes import CHECKPOINT, vote_digest
from pot_lab.consensus.messages import (
    Attestation,
    Checkpoint,
    CheckpointProof,
    Chunk,
    Offer,
    Stable,
    decode_message,
    encode_message,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.records import Accepted, Changing, Decided, Entered, Stabilised, compacted, decode_record
from pot_lab.consensus.replica_state import StateDiverged
from pot_lab.crypto.canonical import sha256
from tests.consensus.cluster import NETWORK_ID, Cluster, Node, make_request

CHUNK_BYTES = 64
SMALL = ConsensusParameters(window=16, snapshot_batches=12, beside_requests=0, chunk_bytes=CHUNK_BYTES)
"""Snapshots of a few hundred bytes, in many chunks."""
LIMIT = 1 << 24


def work(cluster: Cluster, nonces: range, pause_ms: int = 10) -> None:
    for nonce in nonces:
        cluster.submit(make_request(1, nonce))
        cluster.run(pause_ms)


def together(cluster: Cluster) -> bool:
    return len(set(cluster.heights())) == 1


def test_checkpoints_move_the_watermarks_and_keep_logs_and_memory_small() -> None:
    cluster = Cluster(4, parameters=SMALL)
    sizes = []
    for part in range(10):
        work(cluster, range(part * 50, part * 50 + 50))
        sizes.append(max(len(node.disk) for node in cluster.nodes))
    cluster.run(1_000)
    for node in cluster.nodes:
        replica = node.replica
        assert replica.executed == 500 and replica.executed - replica.low < 2 * SMALL.checkpoint_batches
        assert len(replica._slots) + len(replica._proofs) + len(replica._digests) < 6 * SMALL.checkpoint_batches
        assert not replica._contents and len(node.snapshots) <= 2
        assert node.application.executed == cluster.nodes[0].application.executed
    assert max(sizes) < 150 and sizes[-1] < 150


def test_a_replica_comes_back_from_its_snapshot_and_the_rest_of_its_log() -> None:
    cluster = Cluster(4, parameters=SMALL)
    work(cluster, range(75))
    cluster.run(500)
    node = cluster.nodes[2]
    before = node.replica
    node.crash(keep_unsynced=len(node.unsynced))
    node.start()
    after = node.replica
    assert isinstance(decode_record(node.disk[0]), Stabilised)
    assert (after.executed, after.state, after.time_ms, after.low) == (75, before.state, before.time_ms, before.low)
    assert after.replies.snapshot() == before.replies.snapshot()
    work(cluster, range(75, 120))
    cluster.run(500)
    assert cluster.heights() == [120] * 4


@pytest.mark.parametrize("away", ["crashed", "emptied"])
def test_a_replica_whose_next_batch_left_all_logs_fetches_the_snapshot(away: str) -> None:
    cluster = Cluster(4, parameters=SMALL)
    work(cluster, range(5))
    node = cluster.nodes[3]
    node.crash()
    if away == "emptied":
        node.disk, node.snapshots = [], {}
    work(cluster, range(5, 100))
    node.start()
    cluster.run_until(lambda: together(cluster), 20_000)
    assert node.replica.counters["snapshots_fetched"] == 1
    assert node.application.executed == cluster.nodes[0].application.executed
    cluster.nodes[1].crash()
    work(cluster, range(100, 130))
    cluster.run(3_000)
    assert node.replica.executed == cluster.nodes[0].replica.executed == 130
    node.crash(keep_unsynced=1)
    node.start()
    cluster.nodes[1].start()
    cluster.run_until(lambda: together(cluster), 20_000)


def test_a_replica_fetches_while_the_others_go_on_and_their_snapshots_change() -> None:
    cluster = Cluster(4, parameters=SMALL, delay_ms=8)
    node = cluster.nodes[3]
    node.crash()
    work(cluster, range(60))
    node.start()
    work(cluster, range(60, 200), 40)
    cluster.run(5_000)
    assert together(cluster) and node.application.executed == cluster.nodes[0].application.executed


@pytest.mark.parametrize("lie", ["chunk", "offer", "silence", "foreign proof", "f+1 signatures"])
def test_a_lying_peer_costs_time_only(lie: str) -> None:
    cluster = Cluster(4, parameters=SMALL)
    node = cluster.nodes[3]
    node.crash()
    work(cluster, range(60))

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        if sender != 0 or to != 3:
            return data
        if isinstance(message, Chunk) and lie == "chunk":
            return encode_message(msgspec.structs.replace(message, data=b"x" * len(message.data)))
        if isinstance(message, Chunk) and lie == "silence" and message.index:
            return None
        if isinstance(message, Offer):
            proof = message.proof
            if lie == "offer":
                return encode_message(msgspec.structs.replace(message, chunks=(sha256(b""),) * len(message.chunks)))
            if lie == "foreign proof":
                proof = msgspec.structs.replace(proof, sequence=proof.sequence + 4)
            if lie == "f+1 signatures":
                proof = msgspec.structs.replace(proof, attestations=proof.attestations[:2])
            return encode_message(msgspec.structs.replace(message, proof=proof))
        return data

    cluster.tamper = tamper
    node.start()
    cluster.run_until(lambda: together(cluster), 30_000)
    assert node.application.executed == cluster.nodes[0].application.executed


def test_a_snapshot_of_another_state_is_never_taken_over() -> None:
    """A liar signs its own false checkpoint; f+1 honest signatures are not q."""
    cluster = Cluster(4, parameters=SMALL)
    replica = cluster.nodes[1].replica
    state = b"f" * 32
    for liar in (3,):
        signed = vote_digest(NETWORK_ID, CHECKPOINT, 0, 4, bytes(32), 4, state)
        false = Checkpoint(4, state, bytes(32), liar, cluster.identities[liar].sign(signed))
        cluster.deliver(liar, 1, encode_message(false))
    cluster.nodes[3].crash()
    work(cluster, range(40))
    cluster.run(500)
    assert replica.low >= 36 and replica.executed == 40


def test_a_checkpoint_proof_counts_with_q_signatures_and_not_with_fewer() -> None:
    cluster = Cluster(4, parameters=SMALL)
    work(cluster, range(3))
    cluster.run(500)
    replica = cluster.nodes[1].replica
    state = b"g" * 32

    def signed(index: int) -> Attestation:
        digest = vote_digest(NETWORK_ID, CHECKPOINT, 0, 40, bytes(32), 40, state)
        return Attestation(index, cluster.identities[index].sign(digest))

    two = CheckpointProof(40, state, bytes(32), (signed(0), signed(2)))
    doubled = CheckpointProof(40, state, bytes(32), (signed(0), signed(2), signed(2)))
    for proof in (two, doubled):
        cluster.deliver(2, 1, encode_message(Stable(proof)))
        assert replica._ahead is None
    cluster.deliver(2, 1, encode_message(Stable(CheckpointProof(40, state, bytes(32), tuple(map(signed, (0, 2, 3)))))))
    assert replica._ahead is not None and replica.low == 0


def test_two_checkpoints_of_one_replica_are_evidence() -> None:
    cluster = Cluster(4, parameters=SMALL)
    cluster.run(50)
    for snapshot in (b"a" * 32, b"b" * 32):
        signed = vote_digest(NETWORK_ID, CHECKPOINT, 0, 4, snapshot, 4, bytes(32))
        said = Checkpoint(4, bytes(32), snapshot, 3, cluster.identities[3].sign(signed))
        cluster.deliver(3, 1, encode_message(said))
    assert [each.accused for each in cluster.accusations] == [3]


def test_a_replica_whose_snapshot_differs_stops() -> None:
    cluster = Cluster(4, parameters=SMALL)
    wrong = cluster.nodes[2].application
    honest = wrong.snapshot
    wrong.snapshot = lambda: honest() + b"\0"  # type: ignore[method-assign]
    work(cluster, range(20))
    cluster.run(500)
    assert [index for index, _ in cluster.halts] == [2] and isinstance(cluster.halts[0][1], StateDiverged)
    assert {node.replica.executed for node in cluster.nodes if node.index != 2} == {20}


def test_view_changes_and_checkpoints_together() -> None:
    cluster = Cluster(4, seed=5, parameters=msgspec.structs.replace(SMALL, request_timeout_ms=500))
    cluster.jitter_ms = 4
    for round_ in range(8):
        work(cluster, range(round_ * 20, round_ * 20 + 20), 15)
        primary = max(node.replica.view for node in cluster.nodes) % 4
        node = cluster.nodes[primary]
        node.crash(keep_unsynced=round_ % 3)
        if round_ % 3 == 2:
            node.disk, node.snapshots = [], {}
        cluster.submit(make_request(2, round_))
        cluster.run_until(lambda r=round_: cluster.answered(make_request(2, r)), 20_000)
        node.start()
        cluster.run_until(lambda: together(cluster), 20_000)
    orders = [node.application.executed for node in cluster.nodes]
    assert orders == [orders[0]] * 4 and not cluster.halts and not cluster.accusations


def test_a_compacted_log_keeps_what_is_above_and_the_last_view() -> None:
    cluster = Cluster(4)
    work(cluster, range(30))
    cluster.nodes[0].crash()
    work(cluster, range(30, 40))
    cluster.run(3_000)
    node: Node = cluster.nodes[1]
    records = [decode_record(data) for data in node.disk + node.unsynced]
    proof = CheckpointProof(20, bytes(32), bytes(32), ())
    kept = list(compacted(proof, records))
    assert kept[0] == Stabilised(proof)
    assert [record.sequence for record in kept if isinstance(record, Decided)] == list(
        range(21, node.replica.executed + 1)
    )
    assert min(record.proposal.sequence for record in kept if isinstance(record, Accepted)) == 21
    assert any(isinstance(record, Entered) for record in kept)
    late = list(compacted(CheckpointProof(10_000, bytes(32), bytes(32), ()), records))
    assert [type(record) for record in late] == [Stabilised, Entered]
    assert not any(isinstance(record, Changing) for record in late)
