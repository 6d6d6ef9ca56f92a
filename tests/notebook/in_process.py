"""A lab whose ledger runs in this process: real records, rules, store and files, without aggregators and chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pot_lab.crypto.canonical import decode, encode
from pot_lab.network.client.ledger import LedgerClient, refusal
from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig
from pot_lab.network.genesis import table_of
from pot_lab.network.keys import CurveKeyPair
from pot_lab.notebook.lab import Lab
from pot_lab.protocol.queries import query
from pot_lab.protocol.records import ChainEvent, order_id
from pot_lab.protocol.transactions import Reply
from tests.protocol.world import World, deterministic_bytes

WALLET_GRAINS = 100 * 10**9


class InProcessClient(LedgerClient):
    """A client of a `World`'s ledger; counts what it is asked."""

    def __init__(self, world: World, config: NetworkConfig) -> None:
        self.world, self.config, self.identity = world, config, world.client
        self.asked: list[str] = []

    def ask(self, name: str, arguments: Any, type_: Any, *, timeout_s: float = 10.0) -> Any:
        self.asked.append(name)
        raw = encode(arguments) if arguments is not None else b""
        return decode(query(self.world.ledger, name, raw), type_, limit_bytes=1 << 26)

    def submit(self, body: Any, *, timeout_s: float = 30.0) -> Reply:
        reply = self.world.submit(self.identity, body)
        if not reply.accepted:
            raise refusal(reply)
        return reply

    def close(self) -> None:
        pass


class InProcessWallet:
    """An account whose escrows the world's aggregators attest at once; counts how often its balance is read."""

    def __init__(self, world: World, grains: int = WALLET_GRAINS) -> None:
        self.world, self.grains, self.balances_read = world, grains, 0

    def balance_grains(self) -> int:
        self.balances_read += 1
        return self.grains

    def place_order(
        self, reward: int, fee: int, bond: int, seal_by_s: int, spec_hash: bytes, nonce: int
    ) -> tuple[bytes, bytes]:
        id_ = order_id(self.world.client.address, nonce, seal_by_s, spec_hash)
        self.grains -= reward + fee + bond
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


def lab_of(world: World, folder: Path) -> Lab:
    """A lab of the world's client, dated by the world's clock."""
    config = config_of(world, str(folder / "store"))
    lab = Lab(config, world.client, now_ms=lambda: world.now_ms, random_bytes=deterministic_bytes("test key"))
    lab.client.close()
    lab.client = InProcessClient(world, config)
    lab._wallet = InProcessWallet(world)  # type: ignore[assignment]
    return lab
