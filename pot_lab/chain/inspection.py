"""What a network's contracts are and hold, read off any node: their code against the committed build, who may change
them, and the three pots of money.

Bytecode is compared without trust in the node's word for constructor arguments: the node runs our own creation code
(`eth_call` without a receiver) twice, with different arguments and senders. Words that differ between the two are
immutables; everything else has to be equal on the chain, and each immutable has to be a value that follows from the
network's own addresses.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pot_lab.agreement.quorum import quorum
from pot_lab.chain.account import ChainAccount
from pot_lab.chain.contract import Contracts, interface
from pot_lab.chain.errors import ChainRefused, ChainReverted
from pot_lab.chain.logs import LogReader
from pot_lab.chain.rpc import JsonRpc, hex_data, read_data, read_quantity
from pot_lab.crypto.canonical import keccak256
from pot_lab.crypto.identity import format_address
from pot_lab.protocol.settlement import abi_word_address, abi_word_uint, domain_separator

_NAMES: Final[Mapping[str, str]] = {
    "token": "PoTToken",
    "registry": "StakeRegistry",
    "escrow": "OrderEscrow",
    "settlement": "RewardSettlement",
}
_PUSH32: Final = 0x7F
_PUSH1: Final = 0x60
_WORD: Final = 32
_NOBODY: Final = bytes(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelockState:
    """A timelock and who may use it; accounts are 20-byte addresses.

    Attributes:
        address: where it is.
        delay_s: how long each act waits.
        proposers: who may propose an act, and cancel one.
        executors: who may execute what has waited; the zero address is everybody.
        admins: who may change these lists at once: the timelock itself, and nobody else.
        governor: the proposer that is this package's governor, made for this timelock and settlement contract.
    """

    address: bytes
    delay_s: int
    proposers: tuple[bytes, ...]
    executors: tuple[bytes, ...]
    admins: tuple[bytes, ...]
    governor: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """What the contracts say. Grains and seconds; accounts are 20-byte addresses.

    Attributes:
        block, block_time_s: the node's newest block.
        owners: who owns each contract that has an owner, by the contract's name in `network.toml`.
        owner_is_contract: whether that owner is a contract, such as a timelock.
        pending_owners: to whom ownership was offered; zero for nobody.
        guardian, treasury: who may veto and pause; who gets slashed stake.
        staked_grains, escrowed_grains, held_grains: tokens of registry, escrow and settlement.
        funded_grains, promised_grains: what the settlement ever got, and what it ever promised to pay.
        epoch, settled_at_s: the last settlement.
        paused_until_s: until when settlements and claims are paused; in the past or 0 if they are not.
        signer_set_id, threshold, signers: whose signatures count.
        timelock: what owns all of them, if it is this package's timelock.
    """

    block: int
    block_time_s: int
    owners: Mapping[str, bytes]
    owner_is_contract: Mapping[str, bool]
    pending_owners: Mapping[str, bytes]
    guardian: bytes
    treasury: bytes
    staked_grains: int
    escrowed_grains: int
    held_grains: int
    funded_grains: int
    promised_grains: int
    epoch: int
    settled_at_s: int
    paused_until_s: int
    signer_set_id: int
    threshold: int
    signers: tuple[bytes, ...]
    timelock: TimelockState | None

    @property
    def is_paused(self) -> bool:
        """Whether settlements and claims are paused at the newest block."""
        return self.paused_until_s > self.block_time_s


class ContractInspector:
    """Reads one network's contracts through one node; use as a context.

    Args:
        rpc_url: the node, or several.
        contracts: where the contracts are.
    Raises:
        Malformed: the address is none.
    """

    def __init__(self, rpc_url: str, contracts: Contracts) -> None:
        self._rpc = JsonRpc(rpc_url)
        self._contracts = contracts
        self._reader = ChainAccount(self._rpc, contracts.chain_id, None)

    def __enter__(self) -> ContractInspector:
        return self

    def __exit__(self, *_: object) -> None:
        self._rpc.close()

    def chain_id(self) -> int:
        """The id of the chain that the node is on."""
        return read_quantity(self._rpc.call("eth_chainId"))

    def clock_offset_s(self) -> float:
        """By how much this host's clock is ahead of the newest block's time."""
        return time.time() - self._block_time_s()

    def coin_wei(self, account: bytes) -> int:
        """What an account has for gas, in wei."""
        return read_quantity(self._rpc.call("eth_getBalance", format_address(account), "latest"))

    def base_fee_wei(self) -> int:
        """What a unit of gas costs at least in the newest block; 0 where gas is free."""
        block = self._block()
        return read_quantity(block["baseFeePerGas"]) if block.get("baseFeePerGas") else 0

    def state(self) -> ChainState:
        """Read everything that `ChainState` holds.

        Raises:
            ChainUnreachable, ChainRefused, ChainReverted: a contract is not there, or is another one.
        """
        at = self._contracts
        block = self._block()
        owned = {name: getattr(at, name) for name in ("registry", "escrow", "settlement")}
        owners = {name: self._ask(name, "owner") for name in owned}
        return ChainState(
            block=read_quantity(block.get("number")),
            block_time_s=read_quantity(block.get("timestamp")),
            owners=owners,
            owner_is_contract={name: bool(self._code(owner)) for name, owner in owners.items()},
            pending_owners={name: self._ask(name, "pendingOwner") for name in owned},
            guardian=self._ask("settlement", "guardian"),
            treasury=self._ask("registry", "treasury"),
            staked_grains=self._ask("token", "balanceOf", at.registry),
            escrowed_grains=self._ask("token", "balanceOf", at.escrow),
            held_grains=self._ask("token", "balanceOf", at.settlement),
            funded_grains=self._ask("settlement", "funded"),
            promised_grains=self._ask("settlement", "total"),
            epoch=self._ask("settlement", "epoch"),
            settled_at_s=self._ask("settlement", "settledAt"),
            paused_until_s=self._ask("settlement", "pausedUntil"),
            signer_set_id=self._ask("settlement", "signerSetId"),
            threshold=self._ask("settlement", "threshold"),
            signers=tuple(self._ask("settlement", "signers")),
            timelock=self._timelock(owners),
        )

    def _timelock(self, owners: Mapping[str, bytes]) -> TimelockState | None:
        """The timelock that owns all contracts; its roles as its own events tell them."""
        (at, *others) = set(owners.values())
        code = self._code(at)
        if others or not code or code != self._reference("Timelock", 1):
            return None
        read = self._reader.read
        names = ("DEFAULT_ADMIN_ROLE", "PROPOSER_ROLE", "EXECUTOR_ROLE")
        roles = [read("Timelock", at, name)[0] for name in names]
        events = interface("Timelock").events
        granted, revoked = events["RoleGranted"], events["RoleRevoked"]
        logs, first = LogReader(self._rpc, [at], [granted.topic, revoked.topic]), self._contracts.first_block
        last = read_quantity(self._rpc.call("eth_blockNumber"))
        seen: dict[bytes, dict[bytes, None]] = {role: {} for role in roles}
        while first <= last:
            found, read_to = logs.read(first, last)
            for log in found:
                role, account = (read_data(topic, 32) for topic in log["topics"][1:3])
                seen.setdefault(role, {})[account[12:]] = None
            first = read_to + 1
        holders = [
            tuple(account for account in seen[role] if read("Timelock", at, "hasRole", role, account)[0])
            for role in roles
        ]
        return TimelockState(
            address=at,
            delay_s=read("Timelock", at, "getMinDelay")[0],
            admins=holders[0],
            proposers=holders[1],
            executors=holders[2],
            governor=next((each for each in holders[1] if self._is_governor(each, at)), None),
        )

    def _is_governor(self, at: bytes, timelock: bytes) -> bool:
        code = self._code(at)
        first, second = (self._reference("Governor", number) for number in (1, 2))
        if len(code) != len(first):
            return False
        words = immutable_words(first, second)
        founder = self._reader.read("Governor", at, "founder")[0]
        places = (at, timelock, self._contracts.settlement, founder)
        allowed = {abi_word_address(place) for place in places} | {
            abi_word_uint(self._contracts.chain_id),
            _domain(b"PoT Governor", self._contracts.chain_id, at),
        }
        wired = [self._reader.read("Governor", at, name)[0] for name in ("timelock", "settlement")]
        return (
            mask(code, words) == mask(first, words)
            and all(code[word : word + _WORD] in allowed for word in words)
            and wired == [timelock, self._contracts.settlement]
        )

    def verify(self) -> list[str]:
        """Every way in which the contracts are not the ones of this package, wired to each other; empty if they are.

        Raises:
            ChainUnreachable, ChainRefused: the node does not answer, or cannot run the comparison.
        """
        seen = self.chain_id()
        if seen != self._contracts.chain_id:
            return [f"the node is on chain {seen}, the contracts on chain {self._contracts.chain_id}"]
        found = [trouble for name in _NAMES for trouble in self._code_troubles(name)]
        return found or self._wiring_troubles()

    def signer_troubles(self, aggregators: Sequence[bytes]) -> list[str]:
        """Every way in which the first signer set is not these aggregators with the ledger's quorum."""
        state, found = self.state(), []
        if state.signer_set_id == 1:  # later sets follow the ledger's seats
            if sorted(state.signers) != sorted(aggregators):
                found.append("the contract's signers are not the aggregators of network.toml")
            wanted = quorum(len(aggregators))
            if state.threshold != wanted:
                found.append(f"{state.threshold} signatures settle an epoch, and the ledger's quorum is {wanted}")
        elif not state.signer_set_id:
            found.append("the settlement contract has no signers yet")
        return found

    def parameter_troubles(self, min_stakes: Sequence[int], unbonding_s: int) -> list[str]:
        """Every way in which the registry's parameters are not the ledger's."""
        found = []
        for role, least in enumerate(min_stakes):
            seen = self._ask("registry", "minStake", role)
            if seen != least:
                found.append(f"the least stake of role {role} is {seen} grains on the chain, {least} in the ledger")
        seen = self._ask("registry", "unbondingPeriod")
        if seen < unbonding_s:
            found.append(f"the chain holds unbonding stake for {seen} s, the ledger counts on {unbonding_s} s")
        return found

    def grace_troubles(self) -> list[str]:
        """Whether escrows can be refunded while settlements are paused."""
        grace_s, pause_s = self._ask("escrow", "stallGrace"), self._ask("settlement", "MAX_PAUSE")
        if grace_s > pause_s:
            return []
        text = f"escrows can be refunded {grace_s} s after an order's last date without any settlement"
        return [f"{text}, and a pause may last {pause_s} s"]

    def _ask(self, name: str, function: str, *arguments: Any) -> Any:
        answer = self._reader.read(_NAMES[name], getattr(self._contracts, name), function, *arguments)
        return answer[0]

    def _block(self) -> dict[str, Any]:
        block = self._rpc.call("eth_getBlockByNumber", "latest", False)
        if not isinstance(block, dict):
            raise ChainRefused("the chain's node gave no block", seen=type(block).__name__)
        return block

    def _block_time_s(self) -> int:
        return read_quantity(self._block().get("timestamp"))

    def _code(self, at: bytes) -> bytes:
        return read_data(self._rpc.call("eth_getCode", format_address(at), "latest"))

    def _code_troubles(self, name: str) -> list[str]:
        contract, at = _NAMES[name], getattr(self._contracts, name)
        where = f"{contract} at {format_address(at)}"
        code = self._code(at)
        if not code:
            return [f"there is no code of {where}"]
        first, second = (self._reference(contract, number) for number in (1, 2))
        if len(code) != len(first):
            return [f"the code of {where} has {len(code)} bytes, that of this package {len(first)}"]
        words = immutable_words(first, second)
        if mask(code, words) != mask(first, words):
            return [f"the code of {where} is not that of this package"]
        allowed = self._immutables(name)
        strange = [code[at : at + _WORD] for at in words if code[at : at + _WORD] not in allowed]
        return [f"{where} was made for another network: it holds 0x{word.hex()}" for word in strange[:1]]

    def _reference(self, contract: str, number: int) -> bytes:
        """The contract's runtime code as our build makes it, with arguments that mean nothing."""
        one, two, three = (bytes([number, index]) * 10 for index in (1, 2, 3))
        arguments: tuple[Any, ...] = {
            "PoTToken": (one, number),
            "StakeRegistry": (one, two, three, number, (0, 0, 0, 0)),
            "OrderEscrow": (one, two, number, number, number),
            "Timelock": (number, [], [], bytes(20)),
            "Governor": (one, two, three),
            "RewardSettlement": (one, two, three, one, two, 1, 0),
        }[contract]
        data = interface(contract).creation(arguments)
        sender = format_address(bytes([0xA0 + number]) * 20)
        try:
            return read_data(self._rpc.call("eth_call", {"from": sender, "data": hex_data(data)}, "latest"))
        except ChainReverted as error:
            raise ChainRefused("the chain's node cannot run a contract's creation", seen=str(error)) from error

    def _immutables(self, name: str) -> set[bytes]:
        """Every value that an immutable of this contract may have, as a word."""
        at, own = self._contracts, getattr(self._contracts, name)
        addresses = {
            "token": (own,),
            "registry": (at.token,),
            "escrow": (at.token,),
            "settlement": (own, at.token, at.escrow, at.registry),
        }[name]
        words = {abi_word_address(address) for address in addresses} | {abi_word_uint(at.chain_id)}
        if name == "settlement":
            words.add(domain_separator(at.chain_id, own))
        if name == "token":
            words.add(_domain(b"Proof of Training", at.chain_id, own))
        return words

    def _wiring_troubles(self) -> list[str]:
        at, found = self._contracts, []
        for name, function, wanted in (
            ("registry", "token", at.token),
            ("registry", "settlement", at.settlement),
            ("escrow", "token", at.token),
            ("escrow", "settlement", at.settlement),
            ("settlement", "token", at.token),
            ("settlement", "escrow", at.escrow),
            ("settlement", "registry", at.registry),
        ):
            seen = self._ask(name, function)
            if seen != wanted:
                found.append(f"{_NAMES[name]}.{function}() is {format_address(seen)}, not {format_address(wanted)}")
        state = self.state()
        if state.timelock is not None and state.timelock.admins != (state.timelock.address,):
            others = [each for each in state.timelock.admins if each != state.timelock.address]
            found += [f"the timelock has another admin than itself: {format_address(each)}" for each in others]
        if (lock := state.timelock) is not None:
            others = [each for each in lock.proposers if each != lock.governor]
            found += [f"not only a quorum proposes to the timelock: {format_address(each)} does" for each in others]
        if state.promised_grains > state.funded_grains:
            found.append(f"{state.promised_grains} grains are promised, and only {state.funded_grains} were funded")
        return found


def immutable_words(first: bytes, second: bytes) -> list[int]:
    """Offsets of the words in which two builds of one contract differ: the data of PUSH32 instructions.

    Raises:
        ChainRefused: they differ elsewhere, so they are not of one contract.
    """
    words, at, end = [], 0, len(first)
    if len(second) != end:
        raise ChainRefused("the chain's node runs one creation code in two ways", seen=len(second), wanted=end)
    differs: Callable[[int, int], bool] = lambda start, stop: first[start:stop] != second[start:stop]  # noqa: E731
    while at < end:
        operation = first[at]
        size = operation - _PUSH1 + 1 if _PUSH1 <= operation <= _PUSH32 else 0
        if operation == _PUSH32 and differs(at + 1, at + 1 + size):
            words.append(at + 1)
        elif differs(at, at + 1 + size):
            raise ChainRefused("the chain's node runs one creation code in two ways", seen=f"byte {at}")
        at += 1 + size
    return words


def mask(code: bytes, words: Sequence[int]) -> bytes:
    """The code with zeros for these words."""
    masked = bytearray(code)
    for at in words:
        masked[at : at + _WORD] = bytes(_WORD)
    return bytes(masked)


def _domain(name: bytes, chain_id: int, contract: bytes) -> bytes:
    """A contract's EIP-712 domain."""
    kind = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    return keccak256(kind + keccak256(name) + keccak256(b"1") + abi_word_uint(chain_id) + abi_word_address(contract))
