"""A lab whose ledger runs in this process: real records, rules, store and files, without aggregators and chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pot_lab.consensus.membership import Membership
from pot_lab.crypto.canonical import encode
from pot_lab.errors import PotLabError
from pot_lab.network.client.calls import Call
from pot_lab.network.client.ledger import LedgerClient
from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig
from pot_lab.network.genesis import table_of
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.seats import first_set
from pot_lab.notebook.lab import Lab
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import ChainEvent, order_id
from pot_lab.protocol.transactions import Reply
from tests.protocol.world import World, deterministic_bytes, key

WALLET_GRAINS = 100 * 10**9


class FollowedWorld(World):
    """A world whose batches can be followed as those of a network."""

    def __init__(self, *, miners: bool = True) -> None:
        super().__init__()
        self.followers: list[Callable[[int, int, tuple[bytes, ...]], None]] = []
        if miners:
            self.have_validators()
            self.stake(key("bystander"), Role.PROVIDER)

    def ordered(self, *requests: bytes) -> list[Reply]:
        before = len(self.events)
        replies = super().ordered(*requests)
        events = tuple(encode(event) for event in self.events[before:])
        for follower in tuple(self.followers):
            follower(self.ledger.state.sequence, self.now_ms, events)
        return replies


class InProcessTransport:
    """Moves the bytes of a `LedgerClient` to and from a world's ledger; counts what is asked.

    While `problem` is set, queries fail with it.
    """

    def __init__(self, world: FollowedWorld) -> None:
        self.world = world
        self.asked: list[str] = []
        self.problem: PotLabError | None = None
        self.timers: list[Callable[[], None]] = []

    @property
    def membership(self) -> Membership:
        return first_set(config_of(self.world, ""))

    @property
    def known_sequence(self) -> int:
        return self.world.ledger.state.sequence

    def submit(self, request: bytes, *, timeout_s: float = 30.0) -> Call[bytes]:
        call: Call[bytes] = Call()
        call.finish(encode(self.world.ordered(request)[0]))
        return call

    def query(self, name: str, arguments: bytes = b"", *, timeout_s: float = 10.0) -> Call[bytes]:
        self.asked.append(name)
        call: Call[bytes] = Call()
        try:
            if self.problem is not None:
                raise self.problem
            call.finish(query(self.world.ledger, name, arguments))
        except PotLabError as error:
            call.fail(error)
        return call

    def subscribe(self, callback: Callable[[int, int, tuple[bytes, ...]], None], from_sequence: int = 0) -> Follower:
        self.world.followers.append(callback)
        return Follower(self.world, callback)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.timers.append(action)

    def poll(self) -> None:
        """Run every timer that waits, as if its time had come."""
        waiting, self.timers = self.timers, []
        for action in waiting:
            action()

    def close(self) -> None:
        pass


class Follower:
    """A subscription."""

    def __init__(self, world: FollowedWorld, callback: Callable[[int, int, tuple[bytes, ...]], None]) -> None:
        self.world, self.callback = world, callback

    def close(self) -> None:
        self.world.followers.remove(self.callback)


class InProcessWallet:
    """An account whose escrows the world's aggregators attest at once; counts how often its balance is read."""

    def __init__(self, world: World, grains: int = WALLET_GRAINS) -> None:
        self.world, self.grains, self.balances_read = world, grains, 0
        self.claimed: dict[bytes, int] = {}
        self.payouts: dict[bytes, bytes] = {}
        self.placed: set[bytes] = set()

    def balance_grains(self) -> int:
        self.balances_read += 1
        return self.grains

    def claimed_grains(self, account: bytes) -> int:
        return self.claimed.get(account, 0)

    def claim(self, account: bytes, cumulative_grains: int, proof: Sequence[bytes]) -> None:
        self.grains += cumulative_grains - self.claimed_grains(account)
        self.claimed[account] = cumulative_grains

    def payout_address(self, account: bytes) -> bytes:
        return self.payouts.get(account, account)

    def finish_earlier(self) -> None:
        pass

    def is_placed(self, order: bytes) -> bool:
        return order in self.placed

    def place_order(
        self, reward: int, fee: int, bond: int, seal_by_s: int, spec_hash: bytes, nonce: int
    ) -> tuple[bytes, bytes]:
        id_ = order_id(self.world.client.address, nonce, seal_by_s, spec_hash)
        self.grains -= reward + fee + bond
        self.placed.add(id_)
        detail = (fee, bond, seal_by_s, nonce)
        self.world.chain(
            ChainEvent(
                kind="order_placed",
                block=2,
                log_index=0,
                account=self.world.client.address,
                role=-1,
                amount_grains=reward,
                subject=id_,
                detail=detail,
            )
        )
        return id_, bytes(32)


def config_of(world: World, store_url: str) -> NetworkConfig:
    """The network file of a world."""
    members = world.genesis.members
    entries = tuple(
        AggregatorEntry(
            index=index,
            host="127.0.0.1",
            peer_port=2 * index + 1,
            client_port=2 * index + 2,
            curve_public=CurveKeyPair.generate().public,
            address=member.address,
            sealing_public=member.sealing_public,
        )
        for index, member in enumerate(members)
    )
    address = b"\1" * 20
    chain = ChainConfig(
        rpc_url="http://127.0.0.1:1", chain_id=world.genesis.chain_id, token=address, registry=address, escrow=address,
        settlement=world.genesis.settlement_contract,
    )  # fmt: skip
    return NetworkConfig(
        network_id=world.network_id, name="test", aggregators=entries, chain=chain, store_url=store_url,
        parameters=table_of(world.parameters),
    )  # fmt: skip


def lab_of(world: FollowedWorld, folder: Path) -> Lab:
    """A lab of the world's client, dated by the world's clock."""
    config = config_of(world, str(folder / "store"))
    return Lab(
        config,
        world.client,
        client=LedgerClient(config, world.client, transport=InProcessTransport(world)),
        wallet=InProcessWallet(world),
        now_ms=lambda: world.now_ms,
        random_bytes=deterministic_bytes("test key"),
    )
