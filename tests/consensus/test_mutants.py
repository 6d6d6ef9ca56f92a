"""What the view change and the checkpoints must check: take one check away, and these scenarios break."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pot_lab.agreement.votes import PRE_PREPARE, vote_digest
from pot_lab.consensus import view_change as view_change_module
from pot_lab.consensus import view_transition
from pot_lab.consensus.membership import Verifier
from pot_lab.consensus.messages import (
    Chunk,
    Commit,
    Prepare,
    PrePrepare,
    ViewChange,
    batch_digest,
    decode_message,
    encode_message,
    request_digest,
)
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.snapshot_fetch import SnapshotFetch
from pot_lab.consensus.view_change import Plan
from tests.consensus.cluster import NETWORK_ID, Cluster, make_request
from tests.consensus.test_view_change import proof, sign

LIMIT = 1 << 24
Patch = pytest.MonkeyPatch


def committed_at_one_alone() -> None:
    """Replica 1 executed a batch alone and goes away; the others prepared it, and a liar hides that it did."""
    cluster = Cluster(4)
    cluster.run(100)
    request = make_request(1, 0)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        return None if isinstance(message, Commit) and message.view == 0 and to != 1 else data

    cluster.tamper = tamper
    cluster.submit(request)
    cluster.run(20)
    assert cluster.heights() == [0, 1, 0, 0]
    cluster.nodes[1].crash()
    for node in cluster.nodes:
        node.replica.pool.remove(request_digest(request))
    cluster.cut = lambda sender, to: 0 in (sender, to)
    later = make_request(2, 0)
    cluster.submit(later, [2, 3])
    cluster.run(2_000)
    cluster.cut = lambda sender, to: False
    cluster.run_until(lambda: cluster.answered(later), 60_000)
    assert cluster.nodes[2].application.executed[0] == request
    cluster.nodes[1].start()
    cluster.run_until(lambda: len(set(cluster.heights())) == 1, 20_000)


def old_view_and_new_view() -> None:
    """The old primary talks on in its view after a new one began; half of the replicas hear it first."""
    cluster = Cluster(4)
    cluster.run(100)
    cluster.cut = lambda sender, to: sender == 0
    cluster.submit(make_request(1, 0))
    cluster.run(2_000)
    assert cluster.heights()[1:] == [1, 1, 1]
    cluster.cut = lambda sender, to: False
    replica = cluster.nodes[1].replica

    stale = make_request(3, 0)
    digests = (request_digest(stale),)
    digest = batch_digest(2, cluster.now_ms, digests)
    signed = vote_digest(NETWORK_ID, PRE_PREPARE, 0, 2, digest, replica.executed, replica.state)
    proposal = PrePrepare(
        0, 2, cluster.now_ms, digests, (stale,), replica.executed, replica.state, cluster.identities[0].sign(signed)
    )
    for to in (1, 2, 3):
        cluster.deliver(0, to, encode_message(proposal))
    cluster.run(1_000)
    assert cluster.heights()[1:] == [1, 1, 1]
    assert not any(slot.proposal for node in cluster.nodes[1:] for slot in node.replica._slots.values())


def forged_certificate() -> None:
    """A liar shows a batch as prepared that two replicas signed, itself one of them; n=6, where 2f+1 is too few."""

    cluster = Cluster(6)
    cluster.run(100)
    false = proof(cluster, 1, b"f" * 32)
    false = msgspec.structs.replace(false, prepares=false.prepares[:2])
    cluster.nodes[0].crash()
    for to in range(1, 5):
        cluster.deliver(5, to, encode_message(sign(cluster, 5, ViewChange(1, None, (false,), 5, bytes(65)))))
    for node in cluster.nodes[1:]:
        assert node.replica._changes.at_least(1) == 0
    request = make_request(1, 0)
    cluster.submit(request)
    cluster.run_until(lambda: cluster.answered(request), 30_000)


def lying_chunks() -> None:
    """A peer sends other bytes than were signed."""
    cluster = Cluster(4, parameters=ConsensusParameters(window=16, snapshot_batches=12, beside_requests=0))
    node = cluster.nodes[3]
    node.crash()
    for nonce in range(40):
        cluster.submit(make_request(1, nonce))
        cluster.run(10)

    def tamper(sender: int, to: int, data: bytes) -> bytes | None:
        message = decode_message(data, limit_bytes=LIMIT)
        if isinstance(message, Chunk) and sender == 0:
            return encode_message(msgspec.structs.replace(message, data=message.data[:-1] + b"x"))
        return data

    cluster.tamper = tamper
    node.start()
    cluster.run_until(lambda: len(set(cluster.heights())) == 1, 30_000)
    assert not cluster.halts


def restart_after_leaving_a_view() -> None:
    """A replica that said what it prepared goes down; back again, it must not prepare more in the view it left."""
    cluster = Cluster(4)
    cluster.run(100)
    cluster.nodes[0].crash()
    cluster.nodes[1].crash()
    cluster.submit(make_request(1, 0))
    cluster.run(2_000)
    node = cluster.nodes[2]
    assert (node.replica.view, node.replica.changing) == (1, True)
    node.crash()
    node.start()
    assert (node.replica.view, node.replica.changing) == (1, True)
    for sender in (0, 3):
        cluster.deliver(sender, 2, encode_message(Prepare(0, 1, bytes(32), 0, node.replica.state, sender, bytes(65))))
    assert not node.replica._slots


SCENARIOS = [
    committed_at_one_alone,
    old_view_and_new_view,
    forged_certificate,
    lying_chunks,
    restart_after_leaving_a_view,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_scenarios_hold_as_it_is(scenario: Callable[[], None]) -> None:
    scenario()


def certificates_dropped(patch: Patch) -> None:
    change_view = Replica._change_view

    def forgetful(self: Replica, view: int) -> None:
        self._proofs.clear()
        change_view(self, view)

    patch.setattr(Replica, "_change_view", forgetful)


def plan_ignores_certificates(patch: Patch) -> None:
    empty = lambda changes: Plan(None, {})  # noqa: E731
    patch.setattr(view_transition, "plan", empty)
    patch.setattr(view_change_module, "plan", empty)


def stale_view_accepted(patch: Patch) -> None:
    in_window = Replica._in_window

    def blind(self: Replica, sender: int, message: PrePrepare | Prepare | Commit) -> bool:
        return in_window(self, sender, msgspec.structs.replace(message, view=self.view))

    signed = Verifier.signed
    patch.setattr(Replica, "_in_window", blind)
    patch.setattr(
        Verifier, "signed", lambda self, replica, *rest: signed(self, 0, *rest) or signed(self, replica, *rest)
    )


def certificates_of_f_plus_one(patch: Patch) -> None:
    prepared = Verifier.prepared

    def lax(self: Verifier, proof: object) -> bool:
        self.q, kept = 3, self.q
        try:
            return prepared(self, proof)  # type: ignore[arg-type]
        finally:
            self.q = kept

    patch.setattr(Verifier, "prepared", lax)


def chunks_unchecked(patch: Patch) -> None:
    def gullible(self: SnapshotFetch, index: int, data: bytes) -> bool:
        self._asked.discard(index)
        self._chunks[index] = data
        return True

    patch.setattr(SnapshotFetch, "take", gullible)


def leaving_not_written_down(patch: Patch) -> None:
    persist = Replica._persist
    patch.setattr(
        Replica,
        "_persist",
        lambda self, record, *, urgent=True: (
            None if type(record).__name__ == "Changing" else persist(self, record, urgent=urgent)
        ),
    )


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    [
        (certificates_dropped, committed_at_one_alone),
        (plan_ignores_certificates, committed_at_one_alone),
        (stale_view_accepted, old_view_and_new_view),
        (certificates_of_f_plus_one, forged_certificate),
        (chunks_unchecked, lying_chunks),
        (leaving_not_written_down, restart_after_leaving_a_view),
    ],
    ids=lambda part: part.__name__,
)
def test_a_missing_check_is_seen(
    monkeypatch: Patch, mutant: Callable[[Patch], None], scenario: Callable[[], None]
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        scenario()
