"""An order is paid once, also when its kernel is killed between the payment and the answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pot_lab.chain.errors import ChainUnreachable, InsufficientBalance, TransactionUnconfirmed
from pot_lab.notebook import paying
from pot_lab.notebook.errors import PaidBefore
from pot_lab.notebook.lab import Lab
from pot_lab.notebook.order import Order
from pot_lab.notebook.paying import PaymentNotes
from pot_lab.protocol.cycle import Window
from tests.notebook.in_process import WALLET_GRAINS, FollowedWorld, InProcessWallet, lab_of

X, Y = torch.linspace(0, 1, 40).reshape(10, 4), torch.arange(10) % 3
COST = 8 * 10**9


class Killed(BaseException):
    """The process ends here."""


class KilledAfterPaying:
    """A wallet whose process is killed once it has paid."""

    def __init__(self, wallet: Any) -> None:
        self.wallet = wallet

    def place_order(self, *terms: Any) -> None:
        self.wallet.place_order(*terms)
        raise Killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wallet, name)


@pytest.fixture
def world() -> FollowedWorld:
    return FollowedWorld()


@pytest.fixture
def wallet(world: FollowedWorld) -> InProcessWallet:
    return InProcessWallet(world)


@pytest.fixture
def lab(world: FollowedWorld, tmp_path: Path, wallet: InProcessWallet) -> Iterator[Lab]:
    with lab_of(world, tmp_path) as lab:
        lab._wallet = wallet  # type: ignore[assignment]
        yield lab


def place(lab: Lab, *, seed: int = 0, title: str = "digits", reward: int = 5) -> Order:
    torch.manual_seed(seed)
    return lab.order(nn.Linear(4, 3), (X, Y), (X, Y), reward=reward, train_for="10s", fee=1, bond=2, title=title)


def notes(lab: Lab) -> list[Path]:
    return sorted(PaymentNotes(lab.genesis.network_id, lab.identity.address)._folder.glob("*"))


@pytest.fixture
def killed(lab: Lab, wallet: InProcessWallet, world: FollowedWorld) -> Lab:
    """A lab whose last process was killed after it paid for an order."""
    lab._wallet = KilledAfterPaying(wallet)  # type: ignore[assignment]
    with pytest.raises(Killed):
        place(lab)
    assert wallet.grains == WALLET_GRAINS - COST
    world.now_ms += 1_000  # another order of this content has another id
    lab._wallet = wallet  # type: ignore[assignment]
    return lab


def test_an_order_that_returned_leaves_no_note(lab: Lab) -> None:
    place(lab)
    assert notes(lab) == []


def test_the_cell_run_again_gives_the_paid_order_and_pays_nothing(killed: Lab, wallet: InProcessWallet) -> None:
    order = place(killed)
    assert wallet.grains == WALLET_GRAINS - COST and len(wallet.placed) == 1
    assert order.id in wallet.placed and order.window is Window.COMMIT
    assert torch.equal(order.test_data()[0], X), "its client can still read its test data"
    assert notes(killed) == []


def test_without_the_note_it_would_be_paid_twice(killed: Lab, wallet: InProcessWallet) -> None:
    for note in notes(killed):
        note.unlink()
    place(killed)
    assert wallet.grains == WALLET_GRAINS - 2 * COST


def test_after_the_paid_one_was_given_the_same_order_can_be_placed_anew(killed: Lab, wallet: InProcessWallet) -> None:
    first = place(killed)
    assert place(killed).id != first.id
    assert wallet.grains == WALLET_GRAINS - 2 * COST


@pytest.mark.parametrize("change", [{"seed": 1}, {"title": "letters"}, {"reward": 6}])
def test_another_order_is_refused_once_and_the_paid_one_named(
    killed: Lab, wallet: InProcessWallet, change: dict[str, Any]
) -> None:
    [paid] = wallet.placed
    with pytest.raises(PaidBefore, match=rf"lab\.get\('{paid.hex()}'\), titled 'digits'"):
        place(killed, **change)
    assert wallet.grains == WALLET_GRAINS - COST
    assert place(killed, **change).id != paid
    assert len(wallet.placed) == 2 and notes(killed) == []


def test_an_account_that_has_just_enough_for_one_gets_the_one_it_paid_for(killed: Lab, wallet: InProcessWallet) -> None:
    wallet.grains = 0
    [paid] = wallet.placed
    assert place(killed).id == paid


def test_a_new_order_is_still_not_placed_without_the_money_for_it(killed: Lab, wallet: InProcessWallet) -> None:
    wallet.grains = 0
    with pytest.raises(PaidBefore):
        place(killed, title="letters")
    with pytest.raises(InsufficientBalance):
        place(killed, title="letters")


def test_a_payment_that_never_came_through_hinders_nothing(lab: Lab, wallet: InProcessWallet) -> None:
    class KilledBeforePaying(KilledAfterPaying):
        def place_order(self, *terms: Any) -> None:
            raise Killed

    lab._wallet = KilledBeforePaying(wallet)  # type: ignore[assignment]
    with pytest.raises(Killed):
        place(lab)
    assert len(notes(lab)) == 2
    lab._wallet = wallet  # type: ignore[assignment]
    place(lab, title="letters")
    assert len(wallet.placed) == 1 and notes(lab) == []


def test_a_paid_order_that_the_ledger_never_got_is_brought_in(
    lab: Lab, wallet: InProcessWallet, world: FollowedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, payments = lab.client.submit, lab._payments
    monkeypatch.setattr(lab.client, "submit", lambda body: None)  # as if the pool was full, and it was paid first
    lab._wallet = KilledAfterPaying(wallet)  # type: ignore[assignment]
    with pytest.raises(Killed):
        place(lab)
    monkeypatch.setattr(lab.client, "submit", submit)
    assert payments is lab._payments and lab.orders() == []
    lab._wallet = wallet  # type: ignore[assignment]
    world.now_ms += 1_000
    order = place(lab)
    assert order.window is Window.COMMIT and len(wallet.placed) == 1


def test_one_that_came_to_its_end_meanwhile_hinders_nothing(killed: Lab, wallet: InProcessWallet) -> None:
    [paid] = wallet.placed
    killed.get(paid).withdraw()
    assert place(killed).id != paid


def test_what_cannot_be_told_sends_nothing(killed: Lab, wallet: InProcessWallet) -> None:
    class Away(KilledAfterPaying):
        def finish_earlier(self) -> None:
            raise TransactionUnconfirmed("not mined", b"\1" * 32)

    killed._wallet = Away(wallet)  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(TransactionUnconfirmed):
            place(killed)
    killed._wallet = wallet  # type: ignore[assignment]
    place(killed)
    assert len(wallet.placed) == 1


def test_a_call_whose_answer_failed_is_looked_up_by_the_next(
    lab: Lab, wallet: InProcessWallet, world: FollowedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paying, "PAYMENT_SEEN_S", 0.0)

    class NodeFails(KilledAfterPaying):
        def place_order(self, *terms: Any) -> None:
            self.wallet.place_order(*terms)
            raise ChainUnreachable("HTTP 502")

        def escrowed_grains(self, order: bytes) -> int:
            raise ChainUnreachable("HTTP 502")

    lab._wallet = NodeFails(wallet)  # type: ignore[assignment]
    with pytest.raises(ChainUnreachable, match="The next order of this account looks first"):
        place(lab)
    lab._wallet = wallet  # type: ignore[assignment]
    world.now_ms += 1_000
    assert place(lab).id in wallet.placed and len(wallet.placed) == 1


HOLD = """
import sys, time
from pathlib import Path
from pot_lab.files import acquire_lock
held = acquire_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_an_order_that_another_kernel_is_paying_is_its_own(killed: Lab, wallet: InProcessWallet) -> None:
    [lock] = [path for path in notes(killed) if path.suffix == ".lock"]
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == "held\n"
    place(killed, title="letters")
    assert len(wallet.placed) == 2
    other.stdin.close()
    other.wait()
    other.stdout.close()
    with pytest.raises(PaidBefore):
        place(killed, title="more letters")


@pytest.mark.parametrize("damage", [b"", b"\xff", b"x" * 2_000_000])
def test_a_damaged_note_is_left_alone_and_hinders_nothing(
    killed: Lab, wallet: InProcessWallet, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    [note] = [path for path in notes(killed) if path.suffix == ".order"]
    note.write_bytes(damage)
    place(killed)
    assert "payment_note_unusable" in caplog.text and note.exists()


def test_a_note_is_its_owners_and_a_disk_that_refuses_it_hinders_nothing(
    killed: Lab, wallet: InProcessWallet, caplog: pytest.LogCaptureFixture
) -> None:
    [note] = [path for path in notes(killed) if path.suffix == ".order"]
    assert note.stat().st_mode & 0o777 == 0o600
    assert [each.stat().st_mode & 0o777 for each in note.parents[:2]] == [0o700] * 2
    place(killed)
    home = Path(os.environ["POT_LAB_HOME"]) / "payments"
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    home.rmdir()
    home.write_text("no folder")
    place(killed)
    assert "payment_not_noted" in caplog.text
