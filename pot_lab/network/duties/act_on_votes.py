"""Have the chain's contracts follow the members' votes: sign what a vote asks of the contracts' owner, propose it, and
have it carried out after the timelock's delay (protocol.md, "What the contracts follow").
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pot_lab.chain.errors import BadOwnerAct
from pot_lab.chain.governance import OwnerAct
from pot_lab.crypto.identity import Identity
from pot_lab.errors import PotLabError
from pot_lab.network.duties.chain_queue import ChainQueue
from pot_lab.network.duties.duty import REPEAT_AFTER_MS, log
from pot_lab.network.duties.signer import TransactionSigner
from pot_lab.protocol.ledger import Ledger
from pot_lab.protocol.owner_acts import least_cycle_s
from pot_lab.protocol.parameters import Role
from pot_lab.protocol.proposals import OwnerActSignature, ParameterChange, value_of
from pot_lab.protocol.transactions import SignOwnerAct

LOOK_MS: Final = 15_000
"""How often the chain is asked how an act stands, while there is one."""
NO_OWNER_MS: Final = 3_600_000
"""How long nothing is asked where no governor of ours owns the contracts."""

Call = tuple[str, str, Sequence[Any]]


class ContractOwner(Protocol):
    """What this duty needs of the contracts' governance (`chain.governance.OwnerActs`); every call blocks."""

    def claim_delay_s(self) -> int:
        """How long after a settlement its first claim may come."""
        ...

    def draft(self, calls: Sequence[Call], reason: str) -> OwnerAct:
        """The next proposal."""
        ...

    def waits_until_s(self, proposal: OwnerAct) -> int | None:
        """From when on it can be carried out; None where it was not proposed, 0 once it is done."""
        ...

    def is_ready(self, proposal: OwnerAct) -> bool:
        """Whether its delay is over."""
        ...

    def propose(self, proposal: OwnerAct, signatures: Mapping[bytes, bytes]) -> object:
        """Hand it to the timelock."""
        ...

    def execute(self, proposal: OwnerAct) -> object:
        """Carry it out."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _ActToDo:
    """An act as the ledger has it, and how many signers come before this one in sending it."""

    proposal: int
    changes: tuple[ParameterChange, ...]
    signatures: dict[bytes, OwnerActSignature]
    place: int


@dataclass(slots=True, kw_only=True)
class _Draft:
    """What this aggregator signs for an act: number at the governor and digest; when it submitted that last."""

    number: int
    digest: bytes
    submitted_at_ms: int = -REPEAT_AFTER_MS


class ActOnVotes:
    """Signs each act that a vote asks of the contracts' owner, proposes it with a quorum's signatures, and has it
    carried out; one aggregator after the other, each a look later than the one before it.

    Args:
        ledger: this replica's ledger.
        signer: signs, with the key that the contract knows.
        make_owner: opens the contracts' governance; called by the queue's work until it succeeds.
        queue: asks the chain and does the sending.
        look_ms: how often the chain is asked.
    """

    def __init__(
        self,
        ledger: Callable[[], Ledger],
        signer: TransactionSigner,
        make_owner: Callable[[], ContractOwner],
        queue: ChainQueue,
        *,
        look_ms: int = LOOK_MS,
    ) -> None:
        self._ledger, self._signer = ledger, signer
        self._make_owner, self._queue, self._look_ms = make_owner, queue, look_ms
        self._owner: ContractOwner | None = None
        self._has_no_owner = self._is_looking = False
        self._look_at_ms = 0
        self._looks: Counter[tuple[int, bytes]] = Counter()
        self._drafts: dict[int, _Draft] = {}
        self._done: set[int] = set()

    def on_batch(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        """Nothing to do: `poll` reads the ledger."""

    def poll(self, now_ms: int) -> list[bytes]:
        """This aggregator's signatures that the ledger lacks; starts a look at the chain when one is due."""
        state = self._ledger().book.state
        acts = state.governance.acts
        self._done.intersection_update(acts)
        key = self._signer.signer_of(state.signers)
        waiting = sorted(number for number in acts if number not in self._done)
        if not waiting or key.address not in state.signers:
            return []
        if self._has_no_owner:
            self._has_no_owner, self._look_at_ms = False, now_ms + NO_OWNER_MS
        if now_ms >= self._look_at_ms and not self._is_looking:
            self._is_looking, self._look_at_ms = True, now_ms + self._look_ms
            index, count = sorted(state.signers).index(key.address), len(state.signers)
            found = [
                _ActToDo(
                    proposal=number,
                    changes=acts[number].changes,
                    signatures=dict(acts[number].signatures.items()),
                    place=(index - number) % count,
                )
                for number in waiting
            ]
            quorum = state.signing_quorum
            self._queue.add(lambda: self._look(found, quorum))
        return [
            self._sign(number, draft, key, now_ms)
            for number, draft in list(self._drafts.items())
            if number in waiting and _is_due(draft, acts[number].signatures.get(key.address), now_ms)
        ]

    def _sign(self, proposal: int, draft: _Draft, key: Identity, now_ms: int) -> bytes:
        draft.submitted_at_ms = now_ms
        signature = key.sign(draft.digest)
        body = SignOwnerAct(proposal=proposal, number=draft.number, digest=draft.digest, signature=signature)
        return self._signer.sign(body, key)

    # ------------------------------------------------------------ on the queue's thread

    def _look(self, waiting: Sequence[_ActToDo], quorum: int) -> None:
        try:
            owner = self._opened()
            if owner is None:
                return
            for each in waiting:
                if not self._go_on(owner, each, quorum):
                    break  # the next number at the governor is this one's
        except PotLabError as error:  # the chain is away, or another aggregator was quicker
            log.info("event=owner_act_delayed reason=%r", str(error))
        finally:
            self._is_looking = False

    def _opened(self) -> ContractOwner | None:
        """The contracts' governance, kept once it is open, since finding it reads the chain from the contracts on."""
        try:
            if self._owner is None:
                self._owner = self._make_owner()
        except BadOwnerAct as error:
            self._has_no_owner = True
            log.warning("event=no_contract_owner reason=%r", str(error))
        return self._owner

    def _go_on(self, owner: ContractOwner, waiting: _ActToDo, quorum: int) -> bool:
        """Do what is next for an act; whether it has its number at the governor."""
        calls = calls_of(waiting.changes, owner.claim_delay_s)
        draft = owner.draft(calls, f"vote {waiting.proposal} of the network's members")
        for number in {each.number for each in waiting.signatures.values()}:
            act = dataclasses.replace(draft, number=number)
            if (until_s := owner.waits_until_s(act)) is not None:
                self._carry_out(owner, waiting, act, until_s)
                return True
        digest = draft.message.digest
        agreed = {key: each.signature for key, each in waiting.signatures.items() if each.digest == digest}
        if len(agreed) >= quorum and self._is_turn(waiting, digest):
            owner.propose(draft, agreed)
            log.info("event=owner_act_proposed proposal=%d number=%d", waiting.proposal, draft.number)
            return True
        kept = self._drafts.get(waiting.proposal)
        if kept is None or kept.digest != digest:
            self._drafts[waiting.proposal] = _Draft(number=draft.number, digest=digest)
        return False

    def _carry_out(self, owner: ContractOwner, waiting: _ActToDo, act: OwnerAct, until_s: int) -> None:
        self._drafts.pop(waiting.proposal, None)
        if until_s == 0:
            self._done.add(waiting.proposal)
        elif owner.is_ready(act) and self._is_turn(waiting, b"ready"):
            owner.execute(act)
            self._done.add(waiting.proposal)
            log.info("event=owner_act_executed proposal=%d number=%d", waiting.proposal, act.number)

    def _is_turn(self, waiting: _ActToDo, what: bytes) -> bool:
        self._looks[waiting.proposal, what] += 1
        return self._looks[waiting.proposal, what] > waiting.place


def _is_due(draft: _Draft, kept: OwnerActSignature | None, now_ms: int) -> bool:
    is_kept = kept is not None and kept.digest == draft.digest
    return not is_kept and now_ms - draft.submitted_at_ms >= REPEAT_AFTER_MS


def calls_of(changes: Sequence[ParameterChange], claim_delay_s: Callable[[], int]) -> list[Call]:
    """What the contracts' owner has to do for these parameters (`protocol.owner_acts.FOLLOWED`) to hold on the chain.

    Args:
        claim_delay_s: asked where the contract sets it together with what changes.
    """
    calls: list[Call] = []
    for change in changes:
        value = value_of(change)
        match change.name:
            case "min_stake_grains":
                calls += [("registry", "setMinStake", [int(role), value[role]]) for role in Role]
            case "min_reward_grains":
                calls.append(("escrow", "setMinReward", [value]))
            case "treasury":
                calls.append(("registry", "setTreasury", [value]))
            case "update_ms":
                calls.append(("settlement", "setCycle", [least_cycle_s(value), claim_delay_s()]))
            case "timelock_ms":
                calls.append(("timelock", "updateDelay", [value // 1_000]))
    return calls
