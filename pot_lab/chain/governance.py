"""Acts of the contracts' owner: calls that a quorum of the current signers signs, and that wait in the timelock then.

The governor contract is the timelock's only proposer (chain.md, "The owner"). A proposal is a file that goes from one
signer to the next; anybody sends it once enough have signed, and anybody has it carried out once the delay is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pot_lab.chain import abi
from pot_lab.chain.account import ChainAccount, Receipt
from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.errors import BadOwnerAct, WrongSignature
from pot_lab.chain.fees import DEFAULT_CAP_WEI
from pot_lab.chain.inspection import ContractInspector, TimelockState
from pot_lab.chain.proposal import Confirm, ContractAction
from pot_lab.chain.rpc import JsonRpc
from pot_lab.chain.signer import AccountSigner, TypedMessage
from pot_lab.chain.wallet import pack_signatures
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import Identity, format_address, parse_address
from pot_lab.errors import Malformed, PotLabError

FORMAT: Final = "pot-lab proposal 1"
MAX_FILE_BYTES: Final = 262_144
MAX_CALLS: Final = 32
_CONTRACTS: Final = {
    "token": "PoTToken",
    "registry": "StakeRegistry",
    "escrow": "OrderEscrow",
    "settlement": "RewardSettlement",
}
_PROPOSAL: Final = (
    ("number", "uint64"),
    ("signerSetId", "uint64"),
    ("targets", "address[]"),
    ("calls", "bytes[]"),
    ("reason", "bytes32"),
)
_CANCELLATION: Final = (("id", "bytes32"), ("signerSetId", "uint64"))


class OwnerActFile(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A proposal as a file has it. Addresses, data and signatures are hex with 0x; `reason` is text.

    `calls` are pairs of a contract's address and the call's data; `signatures` are by the signers' addresses, and so
    are `cancellations`, with which it is dropped while it waits.
    """

    format: str
    chain_id: int
    governor: str
    number: int
    signer_set_id: int
    calls: list[tuple[str, str]]
    reason: str
    signatures: dict[str, str] = {}
    cancellations: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerAct:
    """Calls of the contracts' owner, and whose word they are on.

    Attributes:
        chain_id, governor: where it is proposed.
        number: one more than that of the last proposal.
        signer_set_id: whose signatures count.
        calls: contract (20 bytes) and data of each, in this order.
        reason: why, in words.
    """

    chain_id: int
    governor: bytes
    number: int
    signer_set_id: int
    calls: tuple[tuple[bytes, bytes], ...]
    reason: str

    @property
    def reason_hash(self) -> bytes:
        """What of the reason is on the chain: its SHA-256."""
        return hashlib.sha256(self.reason.encode()).digest()

    @property
    def message(self) -> TypedMessage:
        """What signers sign."""
        values = {
            "number": self.number,
            "signerSetId": self.signer_set_id,
            "targets": [target for target, _ in self.calls],
            "calls": [data for _, data in self.calls],
            "reason": self.reason_hash,
        }
        return _message(self.chain_id, self.governor, "Proposal", _PROPOSAL, values)

    @property
    def batch(self) -> tuple[list[bytes], list[int], list[bytes], bytes, bytes]:
        """As the timelock takes it: targets, values, calls, predecessor, salt."""
        targets, calls = [target for target, _ in self.calls], [data for _, data in self.calls]
        return targets, [0] * len(targets), calls, bytes(32), self.number.to_bytes(32, "big")

    @property
    def id(self) -> bytes:
        """The timelock's name for it."""
        return keccak256(abi.encode(("address[]", "uint256[]", "bytes[]", "bytes32", "bytes32"), self.batch))

    def to_file(self, signatures: Mapping[bytes, bytes], cancellations: Mapping[bytes, bytes] | None = None) -> bytes:
        """As JSON."""
        written = OwnerActFile(
            format=FORMAT,
            chain_id=self.chain_id,
            governor=format_address(self.governor),
            number=self.number,
            signer_set_id=self.signer_set_id,
            calls=[(format_address(target), "0x" + data.hex()) for target, data in self.calls],
            reason=self.reason,
            signatures=_by_address(signatures),
            cancellations=_by_address(cancellations or {}),
        )
        return msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n"

    @classmethod
    def from_file(cls, content: bytes) -> tuple[OwnerAct, dict[bytes, bytes]]:
        """Read what `to_file` wrote: the proposal, and the signatures that are signatures of it, by signer.

        Raises:
            BadOwnerAct: it is no such file, or a signature in it is somebody else's.
        """
        try:
            read = _read_file(content)
            if read.format != FORMAT or not 0 < len(read.calls) <= MAX_CALLS:
                raise BadOwnerAct("not a proposal of this version", seen=read.format, wanted=FORMAT)
            proposal = cls(
                chain_id=read.chain_id,
                governor=parse_address(read.governor),
                number=read.number,
                signer_set_id=read.signer_set_id,
                calls=tuple((parse_address(target), _hex(data)) for target, data in read.calls),
                reason=read.reason,
            )
            signatures = {bytes(parse_address(signer)): _hex(each) for signer, each in read.signatures.items()}
            for signer, each in signatures.items():
                if proposal.message.signer_of(each) != signer:
                    raise BadOwnerAct(
                        "a signature is not of the account that it stands for", seen=format_address(signer)
                    )
        except (msgspec.MsgspecError, Malformed, ValueError, WrongSignature) as error:
            raise BadOwnerAct(f"the file is not a proposal: {error}") from error
        return proposal, signatures

    @classmethod
    def cancellations_in(cls, content: bytes) -> dict[bytes, bytes]:
        """Signatures in what `to_file` wrote by which it is dropped, by signer; `OwnerActs.cancel` checks them.

        Raises:
            BadOwnerAct: it is no such file.
        """
        try:
            return {bytes(parse_address(who)): _hex(each) for who, each in _read_file(content).cancellations.items()}
        except (msgspec.MsgspecError, Malformed, ValueError) as error:
            raise BadOwnerAct(f"the file is not a proposal: {error}") from error


class OwnerActs:
    """The owner's acts of one network, through one node.

    Args:
        rpc_url: the node.
        contracts: the network's contracts.
        account: who signs and sends; None for a reader.
        max_fee_wei: wei per gas that a transaction may cost at most.
    Raises:
        BadOwnerAct: no governor of this package proposes to the contracts' owner.
    """

    def __init__(
        self,
        rpc_url: str,
        contracts: Contracts,
        account: Identity | AccountSigner | None = None,
        *,
        max_fee_wei: int = DEFAULT_CAP_WEI,
    ) -> None:
        with ContractInspector(rpc_url, contracts) as inspector:
            lock = inspector.state().timelock
        if lock is None or lock.governor is None:
            raise BadOwnerAct("nothing of this network is decided by a quorum", wanted="a timelock with a governor")
        self.contracts, self.timelock = contracts, lock
        self._governor: bytes = lock.governor
        self._account = ChainAccount(JsonRpc(rpc_url), contracts.chain_id, account, max_fee_wei=max_fee_wei)

    def close(self) -> None:
        """Close the connection to the node."""
        self._account.rpc.close()

    def confirm_by(self, confirm: Confirm | None) -> None:
        """As of `ChainWallet`."""
        self._account.confirm = confirm

    def draft(self, calls: Sequence[tuple[str, str, Sequence[Any]]], reason: str) -> OwnerAct:
        """The next proposal.

        Args:
            calls: contract ("token", "registry", "escrow", "settlement" or "timelock"), function, arguments of each.
            reason: why, in words; its SHA-256 goes onto the chain.
        Raises:
            BadOwnerAct: there is no such function.
            NotEncodable: its arguments do not fit.
        """
        made = []
        for name, function, arguments in calls:
            kind, at = self._kind(name), self._at(name)
            spec = interface(kind).functions.get(function)
            if spec is None:
                raise BadOwnerAct(f"{kind} has no such function", seen=function)
            made.append((at, spec.call_data(arguments)))
        return OwnerAct(
            chain_id=self.contracts.chain_id,
            governor=self._governor,
            number=self._read("proposals") + 1,
            signer_set_id=self._signer_set_id(),
            calls=tuple(made),
            reason=reason,
        )

    def words(self, proposal: OwnerAct) -> str:
        """What is signed, in words, over several lines."""
        lines = [
            f"Proposal {proposal.number} to the owner of the contracts, by signer set {proposal.signer_set_id}.",
            f"  chain    {proposal.chain_id}",
            f"  waits    {self.timelock.delay_s / 3600:g} h after it is proposed; then anybody may carry it out",
            f"  reason   {proposal.reason}",
        ]
        return "\n".join([*lines, *(f"  does     {each}" for each in self.does(proposal))])

    def does(self, proposal: OwnerAct) -> list[str]:
        """Each of its calls in words."""
        return [describe_call(self.contracts, self.timelock, target, data) for target, data in proposal.calls]

    def threshold(self) -> int:
        """How many signers have to sign."""
        return int(self._account.read("RewardSettlement", self.contracts.settlement, "threshold")[0])

    def sign(self, proposal: OwnerAct) -> tuple[bytes, bytes]:
        """This account's address and signature.

        Raises:
            BadOwnerAct: it is of another network, or was drafted for other signers or as another number than is due.
        """
        self._check(proposal)
        return self._signed(proposal.message)

    def sign_cancellation(self, proposal: OwnerAct) -> tuple[bytes, bytes]:
        """This account's address and signature by which a proposal is dropped that waits.

        Raises:
            BadOwnerAct: it is of another network.
        """
        self._check_network(proposal)
        return self._signed(self.cancellation(proposal))

    def propose(self, proposal: OwnerAct, signatures: Mapping[bytes, bytes]) -> Receipt:
        """Hand it to the timelock.

        Raises:
            NotEnoughSignatures: fewer of the current signers signed than have to; nothing was sent.
            BadOwnerAct: as of `sign`.
        """
        self._check(proposal)
        packed = self._packed(proposal.message, signatures)
        targets, _, calls, _, _ = proposal.batch
        at = (proposal.number, targets, calls, proposal.reason_hash)
        return self._account.send("Governor", self._governor, "propose", *at, *packed)

    def recover(self, proposal: OwnerAct) -> Receipt:
        """The same by the founder alone; the contract takes it only where the network stood still for long.

        Raises:
            ChainReverted: NotAllowed, TooEarly.
        """
        self._check(proposal)
        targets, _, calls, _, _ = proposal.batch
        at = (proposal.number, targets, calls, proposal.reason_hash)
        return self._account.send("Governor", self._governor, "proposeRecovery", *at)

    def cancellation(self, proposal: OwnerAct) -> TypedMessage:
        """What the current signers sign to have a proposal dropped that waits."""
        values = {"id": proposal.id, "signerSetId": self._signer_set_id()}
        return _message(self.contracts.chain_id, self._governor, "Cancellation", _CANCELLATION, values)

    def cancel(self, proposal: OwnerAct, signatures: Mapping[bytes, bytes]) -> Receipt:
        """Drop a proposal that waits.

        Raises:
            NotEnoughSignatures: fewer of the current signers signed `cancellation` than have to; nothing was sent.
        """
        packed = self._packed(self.cancellation(proposal), signatures)
        return self._account.send("Governor", self._governor, "cancel", proposal.id, *packed)

    def execute(self, proposal: OwnerAct) -> Receipt:
        """Carry out what has waited.

        Raises:
            ChainReverted: TimelockUnexpectedOperationState (not proposed, still waiting, done), or what a call refused.
        """
        return self._account.send("Timelock", self.timelock.address, "executeBatch", *proposal.batch)

    def waits_until_s(self, proposal: OwnerAct) -> int | None:
        """From which second on it can be carried out; None where it was not proposed or was dropped, 0 once it is
        done.
        """
        at = int(self._account.read("Timelock", self.timelock.address, "getTimestamp", proposal.id)[0])
        return None if at == 0 else (0 if at == 1 else at)

    def is_ready(self, proposal: OwnerAct) -> bool:
        """Whether it was proposed and its delay is over, at the time of the next block."""
        return bool(self._account.read("Timelock", self.timelock.address, "isOperationReady", proposal.id)[0])

    def claim_delay_s(self) -> int:
        """How long after a settlement its first claim may come."""
        return int(self._account.read("RewardSettlement", self.contracts.settlement, "claimDelay")[0])

    def _packed(self, message: TypedMessage, signatures: Mapping[bytes, bytes]) -> tuple[int, bytes]:
        at, read = self.contracts.settlement, self._account.read
        threshold, keys = (read("RewardSettlement", at, name)[0] for name in ("threshold", "signers"))
        plain = {signer: each[:64] + bytes([each[64] % 27]) for signer, each in signatures.items() if len(each) == 65}
        return pack_signatures(message.digest, keys, threshold, plain)

    def _signed(self, message: TypedMessage) -> tuple[bytes, bytes]:
        signer = self._account.signer
        if signer is None:
            raise BadOwnerAct("a reader signs nothing", wanted="an account")
        return signer.address, signer.sign_message(message)

    def _check_network(self, proposal: OwnerAct) -> None:
        seen = (proposal.chain_id, proposal.governor)
        if seen != (self.contracts.chain_id, self._governor):
            raise BadOwnerAct("a proposal of another network", seen=format_address(proposal.governor))

    def _check(self, proposal: OwnerAct) -> None:
        self._check_network(proposal)
        for name, is_, due in (
            ("number", proposal.number, self._read("proposals") + 1),
            ("signer set", proposal.signer_set_id, self._signer_set_id()),
        ):
            if is_ != due:
                raise BadOwnerAct(f"a proposal has another {name} than is due", seen=is_, wanted=due)

    def _read(self, function: str) -> int:
        return int(self._account.read("Governor", self._governor, function)[0])

    def _signer_set_id(self) -> int:
        return int(self._account.read("RewardSettlement", self.contracts.settlement, "signerSetId")[0])

    def _kind(self, name: str) -> str:
        kind = "Timelock" if name == "timelock" else _CONTRACTS.get(name)
        if kind is None:
            raise BadOwnerAct("no such contract", seen=name, wanted=", ".join([*_CONTRACTS, "timelock"]))
        return kind

    def _at(self, name: str) -> bytes:
        return self.timelock.address if name == "timelock" else bytes(getattr(self.contracts, name))


def describe_call(contracts: Contracts, timelock: TimelockState, target: bytes, data: bytes) -> str:
    """A call in words; one that nobody can put into words says so, with all of its data."""
    places = {bytes(getattr(contracts, name)): kind for name, kind in _CONTRACTS.items()}
    places[timelock.address] = "Timelock"
    kind = places.get(target)
    if kind is not None:
        for spec in interface(kind).functions.values():
            if spec.selector == data[:4]:
                try:
                    arguments = abi.decode(spec.inputs, data[4:])
                    if spec.call_data(arguments) == data:
                        return ContractAction(contract=kind, function=spec.name, arguments=arguments).words
                except PotLabError:
                    break
    return f"NOT KNOWN: call {format_address(target)} with 0x{data.hex()}"


def read_call(text: str) -> tuple[str, str, list[Any]]:
    """A call as a person writes it: `escrow.setMinReward 5000000000`. Lists have commas, data are hex with 0x.

    Returns: contract, function and arguments, as `OwnerActs.draft` takes them.
    Raises:
        BadOwnerAct: there is no such contract or function, or an argument is not of its type.
    """
    (where, *words) = text.split() or [""]
    name, _, function = where.partition(".")
    kind = "Timelock" if name == "timelock" else _CONTRACTS.get(name)
    spec = interface(kind).functions.get(function) if kind else None
    if spec is None:
        raise BadOwnerAct("there is no such function of a contract", seen=where, wanted="CONTRACT.FUNCTION")
    if len(words) != len(spec.inputs):
        raise BadOwnerAct(f"{where} takes other arguments", seen=len(words), wanted=", ".join(spec.inputs) or "none")
    try:
        return name, function, [_value(type_, word) for type_, word in zip(spec.inputs, words, strict=True)]
    except (Malformed, ValueError, KeyError) as error:
        raise BadOwnerAct(f"an argument of {where} is not of its type", seen=text, wanted=spec.inputs) from error


def _value(type_: str, word: str) -> Any:
    if type_.endswith("[]"):
        return [_value(type_[:-2], part) for part in word.strip("[]").split(",") if part]
    if type_ == "address":
        return bytes(parse_address(word))
    if type_ == "bool":
        return {"true": True, "false": False}[word.lower()]
    return int(word, 0) if type_.startswith(("uint", "int")) else _hex(word)


def _read_file(content: bytes) -> OwnerActFile:
    if len(content) > MAX_FILE_BYTES:
        raise BadOwnerAct("a proposal's file is too large", seen=len(content), wanted=f"at most {MAX_FILE_BYTES}")
    return msgspec.json.decode(content, type=OwnerActFile)


def _by_address(signatures: Mapping[bytes, bytes]) -> dict[str, str]:
    return {format_address(signer): "0x" + each.hex() for signer, each in signatures.items()}


def _message(
    chain_id: int, governor: bytes, kind: str, fields: tuple[tuple[str, str], ...], values: Mapping[str, Any]
) -> TypedMessage:
    domain = {"name": "PoT Governor", "version": "1", "chainId": chain_id, "verifyingContract": governor}
    return TypedMessage(domain=domain, kind=kind, fields=fields, values=values)


def _hex(text: str) -> bytes:
    if not text.startswith("0x"):
        raise Malformed("not hex", seen=text[:20], wanted="0x and hex digits")
    return bytes.fromhex(text[2:])
