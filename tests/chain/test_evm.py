"""The embedded engine: time, gas, nonces, restarts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pot_lab.chain import abi
from pot_lab.chain.contract import interface
from pot_lab.chain.errors import DamagedJournal, EvmRefused, EvmReverted
from pot_lab.chain.evm import TRANSACTION_GAS, ContractCall, EmbeddedChain
from pot_lab.chain.transaction import ChainTransaction
from tests.chain.world import created_address, identity

FOUNDER = identity("founder")
TOKEN = created_address(FOUNDER.address, 0)
CHAIN_ID = 31_337


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def make(clock: Clock, journal: Path | None = None) -> EmbeddedChain:
    return EmbeddedChain(chain_id=CHAIN_ID, accounts=[], clock=clock, journal=journal)


def create_token(nonce: int = 0, gas: int = 3_000_000) -> bytes:
    data = interface("PoTToken").creation([FOUNDER.address, 10**18])
    return ChainTransaction(
        chain_id=CHAIN_ID, nonce=nonce, max_priority_fee=0, max_fee=0, gas=gas, to=b"", data=data
    ).sign(FOUNDER)


def transfer(nonce: int, grains: int = 1, chain_id: int = CHAIN_ID) -> bytes:
    data = interface("PoTToken").functions["transfer"].call_data([b"\7" * 20, grains])
    return ChainTransaction(
        chain_id=chain_id, nonce=nonce, max_priority_fee=0, max_fee=0, gas=100_000, to=TOKEN, data=data
    ).sign(FOUNDER)


def balance(chain: EmbeddedChain) -> int:
    data = interface("PoTToken").functions["balanceOf"].call_data([b"\7" * 20])
    at = chain.block(chain.height)
    assert at is not None
    return int(abi.decode(["uint256"], chain.call(ContractCall(sender=bytes(20), to=TOKEN, data=data), at))[0])


def test_every_transaction_is_a_block_on_the_hosts_clock() -> None:
    clock = Clock()
    chain = make(clock)
    chain.send(create_token())
    for nonce in range(1, 6):
        chain.send(transfer(nonce))
    times = [chain.block(number).timestamp for number in range(chain.height + 1)]  # type: ignore[union-attr]
    assert times == [1_800_000_000] * 7  # a burst does not run ahead of the clock
    clock.now_s += 30
    chain.send(transfer(6))
    assert chain.block(chain.height).timestamp == 1_800_000_030  # type: ignore[union-attr]
    clock.now_s -= 3_600  # the host's clock was put back
    chain.send(transfer(7))
    assert chain.block(chain.height).timestamp == 1_800_000_030  # type: ignore[union-attr]
    assert balance(chain) == 7


def test_gas_is_free_and_stays_free() -> None:
    chain = make(Clock())
    assert chain.balance(FOUNDER.address, chain.block(0)) == 0  # type: ignore[arg-type]
    chain.send(create_token())
    for nonce in range(1, 10):
        chain.send(transfer(nonce))
    assert chain.block(chain.height).header.base_fee_per_gas == 0  # type: ignore[union-attr]


def test_a_transaction_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    chain = make(Clock())
    chain.send(create_token())
    for raw, reason in (
        (transfer(0), "nonce too low"),
        (transfer(5), "nonce too high"),
        (transfer(1, chain_id=1), "another chain"),
        (b"\2" + transfer(1)[2:], "not a signed transaction"),
        (b"", "not a signed transaction"),
        (create_token(1, gas=TRANSACTION_GAS + 1), "gas limit is too high"),
        (create_token(1, gas=21_000), "does not accept"),
        (bytes(200_000), "too large"),
    ):
        with pytest.raises(EvmRefused, match=reason):
            chain.send(raw)
    assert chain.height == 1
    chain.send(transfer(1))
    assert (chain.height, balance(chain)) == (2, 1)


def test_a_transaction_that_reverts_is_mined_and_says_so() -> None:
    chain = make(Clock())
    chain.send(create_token())
    receipt = chain.receipt(chain.send(transfer(1, grains=10**18 + 1)))
    assert receipt is not None and not receipt.succeeded and receipt.logs == ()
    assert chain.nonce(FOUNDER.address, chain.block(chain.height)) == 2  # type: ignore[arg-type]


def test_an_estimate_is_enough_and_not_wasteful() -> None:
    chain = make(Clock())
    chain.send(create_token())
    data = interface("PoTToken").functions["transfer"].call_data([b"\7" * 20, 5])
    call = ContractCall(sender=FOUNDER.address, to=TOKEN, data=data)
    limit = chain.estimate_gas(call, chain.block(chain.height))  # type: ignore[arg-type]
    receipt = chain.receipt(
        chain.send(
            ChainTransaction(
                chain_id=CHAIN_ID, nonce=1, max_priority_fee=0, max_fee=0, gas=limit, to=TOKEN, data=data
            ).sign(FOUNDER)
        )
    )
    assert receipt is not None and receipt.succeeded
    assert receipt.gas_used <= limit <= receipt.gas_used * 1.2
    with pytest.raises(EvmReverted) as caught:
        data = interface("PoTToken").functions["transfer"].call_data([b"\7" * 20, 10**19])
        chain.estimate_gas(ContractCall(sender=FOUNDER.address, to=TOKEN, data=data), chain.block(chain.height))  # type: ignore[arg-type]
    assert len(caught.value.data) == 4 + 3 * 32


def test_calls_change_nothing() -> None:
    chain = make(Clock())
    chain.send(create_token())
    before = chain.block(chain.height)
    assert before is not None
    data = interface("PoTToken").functions["transfer"].call_data([b"\7" * 20, 5])
    chain.call(ContractCall(sender=FOUNDER.address, to=TOKEN, data=data), before)
    assert balance(chain) == 0
    chain.mine()
    assert chain.block(chain.height).header.state_root == before.header.state_root  # type: ignore[union-attr]


def test_the_past_can_be_read() -> None:
    chain = make(Clock())
    chain.send(create_token())
    for nonce in range(1, 4):
        chain.send(transfer(nonce))
    data = interface("PoTToken").functions["balanceOf"].call_data([b"\7" * 20])
    seen = [
        int.from_bytes(chain.call(ContractCall(sender=bytes(20), to=TOKEN, data=data), chain.block(number)), "big")  # type: ignore[arg-type]
        for number in range(1, 5)
    ]
    assert seen == [0, 1, 2, 3]


def test_a_rewound_chain_goes_on_as_another() -> None:
    chain = make(Clock())
    chain.send(create_token())
    lost = chain.send(transfer(1))
    chain.rewind(1)
    assert (chain.height, chain.receipt(lost), balance(chain)) == (1, None, 0)
    kept = chain.send(transfer(1, grains=9))
    assert (chain.height, balance(chain)) == (2, 9)
    assert [log.transaction for log in chain.logs(2, 2, None, [])] == [kept]
    with pytest.raises(EvmRefused):
        chain.rewind(3)


def test_a_journal_brings_the_same_chain_back(tmp_path: Path) -> None:
    clock, journal = Clock(), tmp_path / "deep" / "journal"
    chain = make(clock, journal)
    chain.send(create_token())
    clock.now_s += 100
    chain.advance_clock(1_000)
    chain.send(transfer(1, grains=5))
    chain.mine()
    hashes = [chain.block(number).hash for number in range(chain.height + 1)]  # type: ignore[union-attr]
    chain.close()
    clock.now_s += 5
    for _ in range(2):  # and again: opening does not change it
        again = make(clock, journal)
        assert [again.block(number).hash for number in range(again.height + 1)] == hashes  # type: ignore[union-attr]
        again.close()
    again = make(clock, journal)
    again.send(transfer(2))
    assert balance(again) == 6
    assert again.block(again.height).timestamp == again.block(3).timestamp  # type: ignore[union-attr]
    with pytest.raises(EvmRefused):
        again.rewind(0)
    again.close()


def test_a_block_is_on_the_disk_before_anybody_is_told_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut leaves of the journal, which is what was synced, brings every block back."""
    clock, journal = Clock(), tmp_path / "journal"
    chain = make(clock, journal)
    synced: list[bytes] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        real(descriptor)
        synced.append(journal.read_bytes())

    monkeypatch.setattr("pot_lab.chain.evm.os.fsync", fsync)
    for height in range(1, 4):
        chain.mine()
        journal.with_name("cut").write_bytes(synced[-1])
        again = make(clock, journal.with_name("cut"))
        assert again.height == height == chain.height
        again.close()
    chain.close()


def test_a_torn_last_line_is_dropped_and_a_damaged_journal_is_refused(tmp_path: Path) -> None:
    clock, journal = Clock(), tmp_path / "journal"
    chain = make(clock, journal)
    chain.send(create_token())
    chain.send(transfer(1))
    chain.close()
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-20])
    chain = make(clock, journal)
    assert chain.height == 1
    chain.send(transfer(1))
    chain.close()
    assert journal.read_bytes() == whole
    lines = whole.split(b"\n")
    for damaged in (
        b"\n".join([lines[0], lines[2], b""]),  # a block is missing
        b"\n".join([lines[0], b"{}", b""]),
        b"\n".join([lines[0], b"[1]", b""]),
        b"not json\n",
        lines[0].replace(b"31337", b"1") + b"\n",
    ):
        journal.write_bytes(damaged)
        with pytest.raises(DamagedJournal):
            make(clock, journal)
