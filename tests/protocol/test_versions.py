"""The next version of the rules takes force by vote; logs of before are replayed under the rules of their time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec import structs

from pot_lab.agreement.application import Batch
from pot_lab.crypto.identity import Address
from pot_lab.errors import PotLabError
from pot_lab.protocol import members
from pot_lab.protocol.application import LedgerApplication
from pot_lab.protocol.book import Book
from pot_lab.protocol.errors import BadOrder, UnknownVersion
from pot_lab.protocol.ledger import HANDLERS, VERSIONS, Handler, Ledger
from pot_lab.protocol.parameters import BadParameter, Role
from pot_lab.protocol.transactions import ProposeVersion, Register, Unregister, Vote, open_transaction
from tests.protocol.scenes import PROVIDERS, VALIDATORS, new_world
from tests.protocol.test_governance import outcome, view, vote
from tests.protocol.world import PARAMETERS, World

SHORT = structs.replace(PARAMETERS, voting_ms=1_000, timelock_ms=1_000)
NEXT = "pot-lab 2.0"


def on_unregister_never(book: Book, address: Address, body: Unregister) -> bytes:
    """In this version nobody leaves."""
    raise BadOrder("in version 2 nobody leaves")


KNOWS_BOTH: Mapping[int, Mapping[str, Handler]] = {
    1: HANDLERS,
    2: {**{kind: each for kind, each in HANDLERS.items() if kind != "register"}, "unregister": on_unregister_never},
}
"""Version 1, and one that exists only here: without `register`, and with another rule for `unregister`."""


def upgraded() -> tuple[World, int]:
    """A world under version 2, and the batch from which it is in force."""
    world = new_world(SHORT)
    world.ledger = with_both(world)
    propose_version(world)
    world.wait(2_000)
    return world, world.ledger.state.governance.since[2]


def with_both(world: World) -> Ledger:
    """A ledger of a release that knows both, with the history of the world's."""
    other = Ledger(world.genesis, versions=KNOWS_BOTH)
    replay(world, other)
    return other


def replay(world: World, other: Ledger) -> None:
    for sequence, (time_ms, requests) in enumerate(world.log, 1):
        other.execute(sequence, time_ms, [open_transaction(request, world.network_id) for request in requests])


def propose_version(world: World, install: str = NEXT) -> int:
    number = int.from_bytes(world.must(PROVIDERS[0], ProposeVersion(0, 2, install)).result, "big")
    vote(world, number, 6)
    return number


def test_the_rules_change_at_one_batch_and_old_batches_are_replayed_under_their_own() -> None:
    world = new_world(SHORT)
    world.ledger = with_both(world)
    world.must(VALIDATORS[0], Unregister(int(Role.VALIDATOR)))
    world.must(VALIDATORS[0], Register(int(Role.VALIDATOR)))
    number = propose_version(world)
    world.wait(1_999)
    world.must(VALIDATORS[0], Unregister(int(Role.VALIDATOR)))
    world.must(VALIDATORS[0], Register(int(Role.VALIDATOR)))
    world.wait(1)
    assert world.submit(VALIDATORS[0], Unregister(int(Role.VALIDATOR))).code == "BadOrder"
    assert world.submit(VALIDATORS[0], Register(int(Role.VALIDATOR))).code == "UnknownKind"
    assert outcome(world, number) == "in force"
    assert (view(world).version, view(world).since) == (2, world.ledger.state.governance.since[2])
    assert with_both(world).snapshot() == world.ledger.snapshot()


def test_the_version_is_part_of_each_batchs_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    world = new_world(SHORT)
    first, second = Ledger(world.genesis, versions=KNOWS_BOTH), Ledger(world.genesis, versions=KNOWS_BOTH)
    second.state.governance.version = 2
    for ledger in (first, second):
        ledger.execute(1, world.now_ms, [])
    assert first.state.digest != second.state.digest
    assert structs.replace(world.genesis, version=2).network_id != world.genesis.network_id


def test_a_release_that_does_not_know_the_version_stops_before_its_first_batch_and_changes_nothing() -> None:
    world = new_world(SHORT)
    propose_version(world)
    world.wait(1_999)
    application, both = LedgerApplication(world.genesis), LedgerApplication(world.genesis, versions=KNOWS_BOTH)
    log = [*world.log, (world.now_ms + 1, ()), (world.now_ms + 2, ())]
    for sequence, (time_ms, requests) in enumerate(log[:-2], 1):
        batch = Batch(sequence, time_ms, requests)
        assert application.execute(batch) == both.execute(batch)
    before = application.snapshot()
    for _ in range(2):  # it stops again each time it is started
        with pytest.raises(UnknownVersion, match=r"version 2 .*knows 1, wanted: install pot-lab 2\.0"):
            application.execute(Batch(len(log) - 1, log[-2][0], ()))
        assert application.snapshot() == before
    for sequence in (len(log) - 1, len(log)):
        both.execute(Batch(sequence, log[sequence - 1][0], ()))
    assert both.ledger.state.governance.version == 2
    with pytest.raises(UnknownVersion, match=r"install pot-lab 2\.0"):
        application.restore(both.snapshot())
    assert application.snapshot() == before
    again = LedgerApplication(world.genesis, versions=KNOWS_BOTH)  # the newer release, from the old one's snapshot
    again.restore(before)
    for sequence in (len(log) - 1, len(log)):
        again.execute(Batch(sequence, log[sequence - 1][0], ()))
    assert again.snapshot() == both.snapshot()


def test_a_network_may_begin_with_a_later_version_and_not_with_an_unknown_one() -> None:
    world = new_world()
    later = structs.replace(world.genesis, version=2)
    assert Ledger(later, versions=KNOWS_BOTH).state.governance.version == 2
    with pytest.raises(UnknownVersion, match="install a newer release"):
        Ledger(later)
    for version in (0, -1, 1 << 16):
        with pytest.raises(BadParameter, match="version"):
            Ledger(structs.replace(world.genesis, version=version))


@pytest.mark.parametrize(
    ("version", "install"),
    [(1, NEXT), (3, NEXT), (0, NEXT), (-1, NEXT), (2, ""), (2, "x" * 129), (2, "two\nlines")],
)
def test_only_the_next_version_with_the_release_that_knows_it(version: int, install: str) -> None:
    world = new_world(SHORT)
    assert world.submit(PROVIDERS[0], ProposeVersion(0, version, install)).code == "BadProposal"


def test_of_two_votes_on_one_version_the_second_changes_nothing() -> None:
    world = new_world(SHORT)
    world.ledger = with_both(world)
    first = propose_version(world)
    second = int.from_bytes(world.must(VALIDATORS[0], ProposeVersion(1, 2, "another release")).result, "big")
    vote(world, second, 6)
    world.wait(3_000)
    assert (outcome(world, first), outcome(world, second)) == ("in force", "impossible")
    assert world.ledger.state.governance.install == NEXT


def test_a_kind_that_no_version_knows_is_ordered_and_refused() -> None:
    # Whether a kind is known depends on the version in force, and a request is checked before its batch is executed:
    # a release that knows the kind already, and one that does not, must agree on which proposals they accept.
    world = new_world(SHORT)
    nonce = world.nonces[PROVIDERS[0].address] = world.nonces[PROVIDERS[0].address] + 1
    request = unknown_kind(world, nonce)
    application = LedgerApplication(world.genesis)
    assert application.validate(request).account == PROVIDERS[0].address
    (reply,) = world.ordered(request)
    assert reply.code == "UnknownKind"
    assert world.submit(PROVIDERS[0], Vote(1, True)).code == "BadProposal", "and the account goes on"


def unknown_kind(world: World, nonce: int) -> bytes:
    from pot_lab.crypto.canonical import encode
    from pot_lab.protocol.transactions import Transaction

    bare = Transaction(
        network_id=world.network_id,
        kind="mint",
        account=PROVIDERS[0].address,
        nonce=nonce,
        body=b"",
        signature=b"",
    )
    return encode(structs.replace(bare, signature=PROVIDERS[0].sign(bare.digest)))


def test_this_release_knows_the_first_version_and_replays_it() -> None:
    assert set(VERSIONS) == {1} and VERSIONS[1] is HANDLERS
    assert VERSIONS[1]["unregister"] is members.on_unregister
    assert issubclass(UnknownVersion, PotLabError)
