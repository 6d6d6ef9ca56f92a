"""An account at a node that the test writes: what a transaction offers, and what a lost answer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from pot_lab.chain.account import ChainAccount
from pot_lab.chain.errors import (
    ChainBusy,
    ChainError,
    ChainRefused,
    ChainReverted,
    ChainUnreachable,
    FeeAboveCap,
    TransactionUnconfirmed,
)
from pot_lab.chain.fees import DEFAULT_TIP_WEI
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity


@pytest.fixture(autouse=True)
def nothing_under_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees what another has left unfinished."""
    monkeypatch.setenv("POT_LAB_HOME", str(tmp_path))


CHAIN, ESTIMATE, BASE_FEE, TIP = 97, 1_000, 70, 3
TOKEN = b"\x07" * 20


class Node:
    """Answers as a real node with fees would; `known` and `refusal` are what it does with a transaction."""

    def __init__(self, *, known: bool = False, refusal: str = "") -> None:
        self.known, self.refusal = known, refusal
        self.sent: list[bytes] = []
        self.trouble: dict[str, list[ChainError | None]] = {}
        """By method: what the next calls raise, before the node does anything."""

    def call(self, method: str, *parameters: Any) -> Any:
        waiting = self.trouble.get(method)
        if waiting and (error := waiting.pop(0)) is not None:
            raise error
        return getattr(self, method)(*parameters)

    def eth_chainId(self) -> str:
        return hex(CHAIN)

    def eth_estimateGas(self, call: dict[str, str]) -> str:
        return hex(ESTIMATE)

    def eth_getTransactionCount(self, who: str, at: str) -> str:
        return hex(5 if at == "pending" else 4)

    def eth_feeHistory(self, count: str, newest: str, percentiles: list[int]) -> dict[str, Any]:
        raise ChainRefused("the method does not exist")

    def eth_getBlockByNumber(self, tag: str, full: bool) -> dict[str, str]:
        return {"baseFeePerGas": hex(BASE_FEE)}

    def eth_maxPriorityFeePerGas(self) -> str:
        return hex(TIP)

    def eth_gasPrice(self) -> str:
        return hex(100)

    def eth_sendRawTransaction(self, raw: str) -> str:
        self.sent.append(bytes.fromhex(raw[2:]))
        if self.refusal:
            raise ChainRefused(self.refusal)
        return "0x" + keccak256(self.sent[-1]).hex()

    def eth_getTransactionByHash(self, name: str) -> dict[str, str] | None:
        return {"hash": name} if self.known and bytes.fromhex(name[2:]) == keccak256(self.sent[-1]) else None

    def eth_getTransactionReceipt(self, name: str) -> dict[str, Any] | None:
        if self.refusal and not self.known:
            return None
        return {"status": "0x1", "blockNumber": "0x9", "gasUsed": "0x3e8", "contractAddress": None}


def transfer(node: Node) -> dict[str, Any]:
    """Send one; returns the fields of what reached the node."""
    identity = Identity(keccak256(b"sender"))
    receipt = ChainAccount(node, CHAIN, identity).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)  # type: ignore[arg-type]
    assert receipt.transaction == keccak256(node.sent[-1]) and receipt.block == 9
    assert bytes.fromhex(Account.recover_transaction(node.sent[-1])[2:]) == identity.address
    return TypedTransaction.from_bytes(HexBytes(node.sent[-1])).as_dict()


BUSY, AWAY, ODD = ChainBusy("HTTP 429"), ChainUnreachable("connection reset"), ChainRefused("header not found")
MISSING = ChainRefused("the method does not exist")


@pytest.mark.parametrize(
    "method",
    [
        "eth_chainId",
        "eth_estimateGas",
        "eth_getTransactionCount",
        "eth_getBlockByNumber",
        "eth_maxPriorityFeePerGas",
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
    ],
)
def test_a_rate_limit_at_any_step_is_waited_through_and_one_transaction_is_made(method: str) -> None:
    node = Node()
    node.trouble[method] = [BUSY, BUSY]
    transfer(node)
    assert len(set(node.sent)) == 1


@pytest.mark.parametrize("error", [BUSY, AWAY, ODD])
def test_no_answer_but_a_receipt_ends_the_wait_for_a_sent_transaction(error: ChainError) -> None:
    node = Node()
    node.trouble["eth_getTransactionReceipt"] = [error, error]
    transfer(node)
    assert len(node.sent) == 1


def test_a_lost_answer_to_the_sending_is_followed_by_the_same_bytes() -> None:
    node = Node(known=True)
    node.trouble["eth_sendRawTransaction"] = [AWAY]
    transfer(node)
    assert len(set(node.sent)) == 1


@pytest.mark.parametrize("method", ["eth_sendRawTransaction", "eth_getTransactionReceipt"])
def test_a_sent_transaction_that_nobody_confirms_is_named(method: str) -> None:
    node = Node()
    node.trouble[method] = [AWAY] * 10_000
    account = ChainAccount(node, CHAIN, Identity(keccak256(b"sender")), receipt_timeout_s=0.2)  # type: ignore[arg-type]
    with pytest.raises(TransactionUnconfirmed, match="connection reset") as caught:
        account.send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    name = caught.value.transaction
    assert f"0x{name.hex()}" in str(caught.value) and all(keccak256(raw) == name for raw in node.sent)


def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_sent() -> None:
    node = Node(refusal="nonce too low")
    node.trouble["eth_sendRawTransaction"] = [AWAY]
    node.trouble["eth_getTransactionReceipt"] = [MISSING]
    with pytest.raises(TransactionUnconfirmed, match="nonce too low"):
        transfer(node)


def test_a_node_that_is_down_before_anything_is_sent_is_told_at_once() -> None:
    node = Node()
    node.trouble["eth_estimateGas"] = [AWAY]
    with pytest.raises(ChainUnreachable) as caught:
        transfer(node)
    assert not isinstance(caught.value, TransactionUnconfirmed) and node.sent == []


@pytest.mark.parametrize(
    ("missing", "tip"),
    [
        (["eth_maxPriorityFeePerGas"], 100 - BASE_FEE),
        (["eth_maxPriorityFeePerGas", "eth_gasPrice"], DEFAULT_TIP_WEI),
    ],
)
def test_a_node_without_a_priority_fee_is_offered_one(missing: list[str], tip: int) -> None:
    node = Node()
    node.trouble = {method: [MISSING] for method in missing}
    sent = transfer(node)
    assert (sent["maxPriorityFeePerGas"], sent["maxFeePerGas"]) == (tip, 2 * BASE_FEE + tip)


def test_a_node_without_a_pending_block_is_asked_for_the_latest() -> None:
    node = Node()
    node.trouble["eth_getTransactionCount"] = [MISSING]
    assert transfer(node)["nonce"] == 4


def test_a_transaction_may_use_a_quarter_more_gas_than_was_estimated() -> None:
    assert transfer(Node())["gas"] == ESTIMATE * 5 // 4


def test_the_fee_cap_covers_a_doubled_base_fee_and_the_tip() -> None:
    sent = transfer(Node())
    assert (sent["maxPriorityFeePerGas"], sent["maxFeePerGas"]) == (TIP, 2 * BASE_FEE + TIP)


def test_a_transaction_comes_after_those_that_are_pending() -> None:
    assert transfer(Node())["nonce"] == 5


def test_a_transaction_that_the_node_knows_already_was_sent() -> None:
    node = Node(known=True, refusal="already known")
    transfer(node)
    assert len(node.sent) == 1


def test_a_transaction_that_the_node_refuses_was_not_sent() -> None:
    with pytest.raises(ChainRefused, match="nonce too low"):
        transfer(Node(refusal="nonce too low"))


def test_another_chain_than_the_networks_is_refused_before_anything_is_sent() -> None:
    node = Node()
    account = ChainAccount(node, CHAIN + 1, Identity(keccak256(b"sender")))  # type: ignore[arg-type]
    with pytest.raises(ChainRefused, match=r"another chain \(seen: 97, wanted: 98\)"):
        account.send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    assert node.sent == []


def test_the_tip_is_what_half_of_the_gas_was_mined_with_lately() -> None:
    node = Node()
    history = {"baseFeePerGas": ["0x1", hex(200)], "reward": [["0x0"], [hex(9)], [hex(11)], [hex(900)]]}
    node.eth_feeHistory = lambda *_: history  # type: ignore[method-assign]
    sent = transfer(node)
    assert (sent["maxPriorityFeePerGas"], sent["maxFeePerGas"]) == (11, 2 * 200 + 11)


@pytest.mark.parametrize(
    "history", [None, [], {}, {"baseFeePerGas": []}, {"baseFeePerGas": ["0x1"], "reward": [[]]}, {"baseFeePerGas": [7]}]
)
def test_a_history_out_of_shape_is_no_history(history: Any) -> None:
    node = Node()
    node.eth_feeHistory = lambda *_: history  # type: ignore[method-assign]
    assert transfer(node)["maxPriorityFeePerGas"] == TIP


def account(node: Node, **settings: Any) -> ChainAccount:
    return ChainAccount(node, CHAIN, Identity(keccak256(b"sender")), **settings)  # type: ignore[arg-type]


def test_a_fee_above_the_cap_is_refused_before_anything_is_sent() -> None:
    node = Node()
    with pytest.raises(FeeAboveCap):
        account(node, max_fee_wei=BASE_FEE - 1).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    assert node.sent == []


def test_a_transaction_never_costs_more_than_the_cap() -> None:
    node = Node()
    node.eth_maxPriorityFeePerGas = lambda: hex(10**15)  # type: ignore[method-assign]
    account(node, max_fee_wei=BASE_FEE + 1).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1)
    sent = TypedTransaction.from_bytes(HexBytes(node.sent[-1])).as_dict()
    assert sent["maxFeePerGas"] == BASE_FEE + 1 >= sent["maxPriorityFeePerGas"]


class Pool(Node):
    """A node with rules for what waits: one transaction a nonce, replaced for a tenth more; the first is
    mined from `price` on.
    """

    def __init__(self, *, price: int = 0) -> None:
        super().__init__()
        self.price, self.mined, self.mined_nonce = price, b"", 4
        self.waiting: dict[int, dict[str, Any]] = {}

    def eth_getTransactionCount(self, who: str, at: str) -> str:
        return hex(self.mined_nonce + (at == "pending" and self.mined_nonce in self.waiting))

    def eth_call(self, call: dict[str, str], at: str) -> str:
        return "0x"

    def eth_sendRawTransaction(self, raw: str) -> str:
        data = bytes.fromhex(raw[2:])
        new = TypedTransaction.from_bytes(HexBytes(data)).as_dict() | {"name": keccak256(data)}
        if new["nonce"] < self.mined_nonce:
            raise ChainRefused("nonce too low")
        old = self.waiting.get(new["nonce"])
        for field in ("maxFeePerGas", "maxPriorityFeePerGas"):
            if old is not None and new[field] * 10 < old[field] * 11:
                raise ChainRefused("replacement transaction underpriced")
        self.waiting[new["nonce"]] = new
        self.sent.append(data)
        return "0x" + new["name"].hex()

    def eth_getTransactionByHash(self, name: str) -> dict[str, str] | None:
        known = [each["name"].hex() for each in self.waiting.values()]
        return {"hash": name} if name[2:] in known else None

    def eth_getTransactionReceipt(self, name: str) -> dict[str, Any] | None:
        first = self.waiting.get(self.mined_nonce)
        if first is not None and first["maxFeePerGas"] >= self.price:
            self.mined, self.mined_nonce, self.price = first["name"], self.mined_nonce + 1, 0
        mined = bytes.fromhex(name[2:]) == self.mined
        return {"status": "0x1", "blockNumber": "0x9", "gasUsed": "0x3e8"} if mined else None

    def said(self) -> list[dict[str, Any]]:
        return [TypedTransaction.from_bytes(HexBytes(raw)).as_dict() for raw in self.sent]


def pay(node: Node, **settings: Any) -> bytes:
    return account(node, **settings).send("PoTToken", TOKEN, "transfer", b"\1" * 20, 1).transaction


def test_what_no_block_takes_is_offered_again_for_more_by_the_rules_of_nodes() -> None:
    node = Pool(price=200)
    name = pay(node, replace_after_s=0.02)
    said = node.said()
    assert name == node.mined and len(said) > 1
    assert {(each["nonce"], bytes(each["data"]), bytes(each["to"])) for each in said} == {
        (4, bytes(said[0]["data"]), TOKEN)
    }
    assert said[-2]["maxFeePerGas"] < 200 <= said[-1]["maxFeePerGas"]


def test_without_replacing_it_would_never_be_mined() -> None:
    node = Pool(price=200)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.2)
    assert len(node.sent) == 1


def test_no_replacement_goes_above_the_cap() -> None:
    node = Pool(price=10**6)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, replace_after_s=0.001, receipt_timeout_s=0.3, max_fee_wei=300)
    assert 200 < max(each["maxFeePerGas"] for each in node.said()) <= 300


def test_an_earlier_version_that_is_mined_ends_the_wait_too() -> None:
    node = Pool()
    calls = node.eth_getTransactionReceipt
    first: list[bytes] = []

    def late(name: str) -> dict[str, Any] | None:
        if len(node.sent) < 2:
            return None
        first.append(keccak256(node.sent[0]))
        node.mined, node.mined_nonce = first[0], 5
        return calls(name)

    node.eth_getTransactionReceipt = late  # type: ignore[method-assign]
    assert pay(node, replace_after_s=0.01) == first[0]


def test_a_restarted_process_finishes_the_stuck_transaction_before_its_own() -> None:
    node = Pool(price=160)
    with pytest.raises(TransactionUnconfirmed) as stuck:
        pay(node, receipt_timeout_s=0.1)
    account(node).send("PoTToken", TOKEN, "transfer", b"\2" * 20, 2)
    said = node.said()
    assert [each["nonce"] for each in said] == [4, 4, 5]
    assert bytes(said[0]["data"]) == bytes(said[1]["data"]) != bytes(said[2]["data"])
    assert said[1]["maxFeePerGas"] >= 160 and keccak256(node.sent[0]) == stuck.value.transaction


def test_without_the_note_everything_later_waits_behind_it(tmp_path: Path) -> None:
    node = Pool(price=160)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.1)
    for note in (tmp_path / "chain").iterdir():
        note.unlink()
    node.price = 150  # what comes now would be mined, were it not for the one before it
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.2)


def test_a_stuck_transaction_that_would_fail_by_now_is_replaced_by_nothing() -> None:
    node = Pool(price=160)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.1)
    node.trouble["eth_call"] = [ChainReverted("TooLate")]
    pay(node)
    said = node.said()
    me = Identity(keccak256(b"sender")).address
    assert [(bytes(each["to"]), bool(each["data"]), each["value"]) for each in said] == [
        (TOKEN, True, 0),
        (me, False, 0),
        (TOKEN, True, 0),
    ]


def test_one_that_the_node_lost_is_not_sent_again_and_the_next_outbids_it() -> None:
    node = Pool(price=160)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.1)
    node.waiting.clear()
    account(node).send("PoTToken", TOKEN, "transfer", b"\2" * 20, 2)
    old, new = node.said()
    assert new["nonce"] == old["nonce"] and new["maxFeePerGas"] * 8 > old["maxFeePerGas"] * 9
    assert bytes(new["data"]) != bytes(old["data"])


def test_a_note_of_another_chain_with_the_same_id_is_forgotten() -> None:
    node = Pool(price=160)
    with pytest.raises(TransactionUnconfirmed):
        pay(node, receipt_timeout_s=0.1)
    other = Pool()
    other.eth_getBlockByNumber = lambda tag, full: {"baseFeePerGas": "0x1", "hash": "0x" + "99" * 32}  # type: ignore[method-assign]
    other.waiting[4] = {"name": b"\7" * 32, "maxFeePerGas": 1, "maxPriorityFeePerGas": 1}
    pay(other)
    assert [each["nonce"] for each in other.said()] == [5] and len(node.sent) == 1


def test_what_was_refused_or_mined_leaves_no_note(tmp_path: Path) -> None:
    transfer(Node())
    with pytest.raises(ChainRefused, match="nonce too low"):
        transfer(Node(refusal="nonce too low"))
    assert list((tmp_path / "chain").iterdir()) == []


def test_a_note_holds_no_key_and_is_its_owners(tmp_path: Path) -> None:
    with pytest.raises(TransactionUnconfirmed):
        pay(Pool(price=10**6), receipt_timeout_s=0.05)
    [note] = (tmp_path / "chain").iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    assert Identity(keccak256(b"sender")).secret not in note.read_bytes()


@pytest.mark.parametrize("damage", [b"", b"\xff", b"x" * 2_000_000])
def test_a_damaged_note_is_no_note(tmp_path: Path, damage: bytes) -> None:
    with pytest.raises(TransactionUnconfirmed):
        pay(Pool(price=10**6), receipt_timeout_s=0.05)
    [note] = (tmp_path / "chain").iterdir()
    note.write_bytes(damage)
    pay(Pool())


def test_a_disk_that_refuses_the_note_hinders_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "chain").write_text("no folder")
    pay(Pool())
    assert "outbox_not_written" in caplog.text
