"""The aggregator process: one replica, its log, its sockets and its duties, in one thread.

Each turn of the loop drains the sockets, steps the replica with everything that came, writes the log once (one wait
for the disk, however many votes), and only then sends. So nothing leaves that a power cut could take back, and the
busier it gets, the more each wait for the disk carries. Nothing from outside raises: what is malformed, stale,
oversize or wrongly signed is counted and dropped. What stops the process is a fault of its own: a full disk, a
damaged log, a state that diverged.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import zmq

from pot_lab.agreement.application import Application
from pot_lab.agreement.evidence import Equivocation
from pot_lab.consensus.membership import NO_SEAT, OUTSIDERS, Membership
from pot_lab.consensus.messages import Chunk, Decisions, Message, decode_message, encode_message, request_digest
from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.consensus.replica import Replica
from pot_lab.consensus.steps import (
    Broadcast,
    Compact,
    Effect,
    Executed,
    Halt,
    Input,
    KeepSnapshot,
    MembersChanged,
    Persist,
    Received,
    Recovered,
    ReportEquivocation,
    Restored,
    Send,
    SendRefusal,
    SendReply,
    ServeChunk,
    ServeDecisions,
    SetTimer,
    Submitted,
    Tick,
)
from pot_lab.crypto.canonical import encode, tagged_hash
from pot_lab.crypto.identity import Identity
from pot_lab.errors import Oversize, PotLabError
from pot_lab.files import FileLocked, acquire_lock
from pot_lab.network.aggregator.client_queues import FairQueue, Streams, Waiting
from pot_lab.network.aggregator.history import History, HistoryRow
from pot_lab.network.aggregator.replica_log import ReplicaLog
from pot_lab.network.config import AggregatorEntry, NetworkConfig
from pot_lab.network.duties.duty import Duty
from pot_lab.network.errors import BadConfig, BadDataDir, BadKeyFile, DataDirLocked
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.logs import EventLog
from pot_lab.network.seats import HANDOVERS, encode_handovers, entries_of, entry_of, first_set, succession_of
from pot_lab.network.transport import CLIENT_DOMAIN, Gate, PeerLinks, listen, receive
from pot_lab.network.wire import (
    MAX_ANSWER_FRAME_BYTES,
    MAX_CLIENT_FRAME_BYTES,
    MAX_PEER_FRAME_BYTES,
    Answer,
    Answered,
    AnsweredAll,
    AskStatus,
    Follow,
    Pushed,
    Query,
    QueryAnswered,
    QueryRefused,
    RequestRefused,
    StatusAnswered,
    Submit,
    SubmitAll,
    Unfollow,
    decode_question,
    encode_frame,
)
from pot_lab.network.wire_codes import error_to_wire

_PEER_FRAMES_A_TURN = 2_000
_CLIENT_FRAMES_A_TURN = 256
_QUESTIONS_A_TURN = 256
_DUTY_POLL_MS = 100
_MEND_EVERY_MS = 1_000
_PUSHES_A_TURN = 64
_DECISIONS_BYTES = 2 * 1024 * 1024
_LONGEST_WAIT_MS = 1_000
_ANSWERS_BYTES, _ANSWER_ROOM_BYTES = 1024 * 1024, 64
_HEARD_LATELY_MS = 10_000


class _Closing(Protocol):
    def close(self) -> None: ...


class Aggregator:
    """One aggregator of a network.

    Args:
        config: the network.
        index: which of its first aggregators this is; None for one that joined later, or is to.
        identity: the key that signs its votes.
        curve_secret: its CURVE secret key, Z85.
        application: the state to keep, in its initial state.
        duties: what else to do.
        data_dir: where log and history live; one process at a time.
        parameters: limits and times of the replica.
        listening: where it listens, if it is none of the first aggregators.
        spare: further voting and CURVE keys, which it takes into use when a change of keys takes force.
        witness: told when another one's lie is proved; again after a restart.

    Raises:
        BadConfig: no such index.
        BadKeyFile: a key is not the one that the network names for this aggregator.
    """

    def __init__(
        self,
        config: NetworkConfig,
        index: int | None,
        identity: Identity,
        curve_secret: str,
        application: Application,
        duties: Sequence[Duty],
        data_dir: str | os.PathLike[str],
        *,
        parameters: ConsensusParameters | None = None,
        listening: AggregatorEntry | None = None,
        spare: Sequence[tuple[Identity, str]] = (),
        witness: Callable[[Equivocation], None] | None = None,
    ) -> None:
        entry = listening
        if index is not None:
            if not 0 <= index < config.n:
                raise BadConfig("the network has no such aggregator", seen=index, wanted=f"0 .. {config.n - 1}")
            entry = config.aggregators[index]
        elif entry is None:
            raise BadConfig("an aggregator that joins must be told where to listen")
        self._keys = CurveKeyPair.from_secret(curve_secret)
        if self._keys.public != entry.curve_public:
            raise BadKeyFile(
                f"this CURVE key is not aggregator {index}'s", seen=self._keys.public, wanted=entry.curve_public
            )
        if identity.address != entry.address:
            raise BadKeyFile(f"this account is not aggregator {index}'s", seen=identity.address, wanted=entry.address)
        self.config, self.index = config, NO_SEAT if index is None else index
        self._entry, self._had_seat = entry, index is not None
        pairs = [self._keys, *(CurveKeyPair.from_secret(secret) for _, secret in spare)]
        self._key_pairs = {pair.public: pair for pair in pairs}
        self._witness = witness
        place = identity.address if index is None else index.to_bytes(4, "big")
        self._log_owner = tagged_hash("pot-lab/network/log-owner/1", config.network_id, place)
        self.data_dir = Path(data_dir)
        self.counters: Counter[str] = Counter()
        self._application = application
        self._duties = tuple(duties)
        spare_keys = [each for each, _ in spare]
        self.replica = Replica(first_set(config, self.index), identity, application, parameters, spare=spare_keys)
        if index is None:
            for handover in succession_of(config).handovers:
                self.replica.succession.follow(handover)
        self._log = EventLog("pot_lab.aggregator", index=index)
        self._inputs: list[Input] = []
        self._effects: list[Effect] = []
        self._answers: list[tuple[bytes, Answer]] = []
        self._replies: dict[bytes, list[Answered]] = {}
        self._heard_ms: dict[int, int] = {}
        self._queue, self._waiting, self._streams = FairQueue(), Waiting(), Streams()
        self._timer_ms: int | None = None
        self._duty_at_ms = 0
        self._mend_at_ms = 0
        self._stopping = False
        self._started_ms = _clock_ms()
        self._waker, self._woken = socket.socketpair()
        for end in (self._waker, self._woken):
            end.setblocking(False)

    def wake(self) -> None:
        """Make the loop turn now and ask the duties; may be called from any thread or signal handler."""
        try:
            self._waker.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # a full pipe wakes the loop as well, and a closed one has no loop

    def stop(self) -> None:
        """End `run` after the turn it is in; may be called from any thread or signal handler."""
        self._stopping = True
        self.wake()

    def run(self) -> None:
        """Work until `stop`.

        Raises:
            DataDirLocked, PortTaken, LogCorrupt, BadLog: it cannot start.
            DiskFull, StateDiverged: it cannot go on; what it acknowledged stays true.
        """
        lock = self._lock_data_dir()
        try:
            self._journal = ReplicaLog(self.data_dir / "replica.log", self._log_owner, self.config.durability)
            try:
                self._history = History(self.data_dir / "history.sqlite", self.config.durability)
                try:
                    self._serve()
                finally:
                    self._history.close()
            finally:
                self._close_journal()
        finally:
            os.close(lock)

    def _serve(self) -> None:
        self._open()
        try:
            self._recover()
            self._log.info(
                "ready",
                peer_port=self._entry.peer_port,
                client_port=self._entry.client_port,
                executed=self.replica.executed,
            )
            while not self._stopping:
                self._turn({source for source, _ in self._poller.poll(self._patience_ms())})
            self._log.info("stopped", executed=self.replica.executed)
        finally:
            self._shut()

    def _open(self) -> None:
        """Listen and connect, with the keys in use now."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = max(1_023, 8 * max(self.config.n, self.replica.n))
        peers = self._peers()
        self._sockets: list[_Closing] = []
        entry, keys = self._entry, self._keys
        try:
            self._gate = Gate(self._context, [each.curve_public for each in peers.values()])
            self._sockets.append(self._gate.socket)
            self._links = PeerLinks(self._context, entry, keys, peers)
            self._sockets.append(self._links)
            self._clients = listen(
                self._context, entry.host, entry.client_port, keys, CLIENT_DOMAIN, MAX_CLIENT_FRAME_BYTES
            )
            self._sockets.append(self._clients)
        except BaseException:
            self._shut()
            raise
        self._watch()

    def _watch(self) -> None:
        """Poll the sockets that there are now."""
        self._poller = zmq.Poller()
        for source in (self._gate.socket, *self._links.sources, self._clients, self._woken):
            self._poller.register(source, zmq.POLLIN)

    def _shut(self) -> None:
        """Close all sockets, dropping what was not sent, and wait until the ports are free.

        The gate closes last: connections that begin meanwhile ask it.
        """
        for each in reversed(self._sockets):
            each.close()
        self._context.term()

    def _peers(self) -> dict[int, AggregatorEntry]:
        """The others by number: the set in force by index, then those who may need to hear of it, or to tell of it."""
        membership, sets = self.replica.membership, self.replica.succession
        entries = entries_of(membership, self.config)
        peers = {each.index: each for each in entries if each.index != membership.index}
        others = [] if membership.since == 0 else list(entries_of(sets.at(membership.since).membership, self.config))
        if membership.index == NO_SEAT:
            others += [*entries_of(sets.latest.membership, self.config), *self.config.aggregators]
        known = {self._keys.public, *(each.curve_public for each in peers.values())}
        for each in others:
            if each.curve_public not in known:
                known.add(each.curve_public)
                peers[OUTSIDERS + len(peers)] = each
        return peers

    def _take_seat(self, membership: Membership) -> None:
        """Another set is in force: reach its members, use the keys that it names for this one, or go."""
        self.index = membership.index
        self._heard_ms.clear()
        self._log.info("members_changed", since=membership.since, n=membership.n, own=membership.index)
        if membership.index == NO_SEAT:
            if self._had_seat:
                self._log.info("left", since=membership.since)
                self._stopping = True
                return
        else:
            self._had_seat = True
            entry = entry_of(membership.index, membership.seats[membership.index], self.config)
            before, self._entry = self._entry, entry
            if (entry.curve_public, entry.peer_port, entry.client_port) != (
                before.curve_public,
                before.peer_port,
                before.client_port,
            ):
                pair = self._key_pairs.get(entry.curve_public)
                if pair is None:
                    raise BadKeyFile("this aggregator lacks the CURVE key that it was given", seen=entry.curve_public)
                self._keys = pair
                self._shut()
                self._open()
                return
        peers = self._peers()
        self._gate.admit([each.curve_public for each in peers.values()])
        self._links.update(peers)
        self._watch()

    def _recover(self) -> None:
        self._effects += self.replica.step(Tick(_clock_ms()))
        beginning = self._journal.beginning()
        if beginning is not None:
            self._effects += self.replica.step(Restored(*beginning))
        for records in self._journal.recover():
            self._effects += self.replica.step(Recovered(records, final=False))
            self._carry_out()
        cut_bytes = self._journal.file.cut_bytes
        if cut_bytes:
            self._log.warning("log_tail_cut", bytes=cut_bytes)
        self._effects += self.replica.step(Recovered((), final=True))
        self._carry_out()

    def _patience_ms(self) -> int:
        if self._queue:
            return 0
        now_ms = _clock_ms()
        until_ms = now_ms + _LONGEST_WAIT_MS
        if self._duties:
            until_ms = min(until_ms, self._duty_at_ms)
        if self._timer_ms is not None:
            until_ms = min(until_ms, self._timer_ms)
        return max(0, until_ms - now_ms)

    def _turn(self, ready: Container[object]) -> None:
        """Take what is ready, and do what follows from it. Clients come first: a proposal may name their requests."""
        now_ms = _clock_ms()
        self._inputs = [Tick(now_ms)]
        if self._gate.socket in ready:
            self._gate.serve()
        if now_ms >= self._mend_at_ms:
            self._links.mend()
            self._mend_at_ms = now_ms + _MEND_EVERY_MS
        if self._clients in ready or self._queue:
            self._hear_clients(now_ms)
        self._hear_peers(ready, now_ms)
        woken = self._woken.fileno() in ready
        if woken:
            self._woken.recv(4_096)
        if woken or now_ms >= self._duty_at_ms:
            self._ask_duties(now_ms)
        self._effects += self.replica.step(*self._inputs)
        self._carry_out()

    # What comes in.

    def _hear_peers(self, ready: Container[object], now_ms: int) -> None:
        for sender, data in self._links.receive(ready, _PEER_FRAMES_A_TURN):
            self._heard_ms[sender] = now_ms
            try:
                message = decode_message(data, limit_bytes=MAX_PEER_FRAME_BYTES)
            except PotLabError as error:
                self.counters["peer_frames_" + error.code.lower()] += 1
                continue
            self._inputs.append(Received(sender, message))

    def _hear_clients(self, now_ms: int) -> None:
        for client, route, frame in receive(self._clients, _CLIENT_FRAMES_A_TURN):
            if frame is None or not client:
                self.counters["client_frames_malformed"] += 1
                continue
            try:
                question = decode_question(frame)
            except PotLabError as error:
                self.counters["client_frames_" + error.code.lower()] += 1
                continue
            if isinstance(question, SubmitAll):
                for request in question.requests:
                    self._queue.put(client, route, Submit(request, question.spread))
            else:
                self._queue.put(client, route, question)
            if len(self._queue) >= _QUESTIONS_A_TURN:
                break  # what waits in the socket loses nothing; a full queue would, and later nonces would overtake it
        for _ in range(min(_QUESTIONS_A_TURN, len(self._queue))):
            route, question = self._queue.take()
            if isinstance(question, Submit):
                self._waiting.add(request_digest(question.request), route, now_ms)
                self._inputs.append(Submitted(question.request, question.spread))
            elif isinstance(question, Query):
                self._answers.append((route, self._query(question)))
            elif isinstance(question, Follow):
                if not self._streams.follow(route, question, now_ms):
                    self.counters["streams_refused"] += 1
            elif isinstance(question, Unfollow):
                self._streams.unfollow(route, question.stream)
            elif isinstance(question, AskStatus):
                self._answers.append((route, self._status(question.call)))

    def _query(self, question: Query) -> Answer:
        self.counters["queries"] += 1
        try:
            if question.name == "metrics":
                answer = self.metrics().encode()
            elif question.name == HANDOVERS:
                era = int.from_bytes(question.arguments[:8], "big")
                answer = encode_handovers(self.replica.succession.since(era))
            elif question.name == "proof":
                answer = encode(self.replica.prove(question.arguments))
            else:
                answer = self._application.query(question.name, question.arguments)
            if len(answer) > MAX_ANSWER_FRAME_BYTES - 64:
                raise Oversize("an answer is too large; ask for less", seen=f"{len(answer)} bytes")
        except PotLabError as error:
            return QueryRefused(question.call, self.replica.executed, *error_to_wire(error))
        return QueryAnswered(question.call, self.replica.executed, answer)

    def _status(self, call: int) -> StatusAnswered:
        replica = self.replica
        return StatusAnswered(
            call, replica.view, replica.primary, replica.executed, replica.time_ms, replica.state, self.totals()
        )

    def _ask_duties(self, now_ms: int) -> None:
        self._duty_at_ms = now_ms + _DUTY_POLL_MS
        for duty in self._duties:
            try:
                requests = duty.poll(now_ms)
            except Exception:  # a duty's fault must not take the ordering down with it
                self.counters["duty_errors"] += 1
                self._log.exception("duty_failed", duty=type(duty).__name__)
                continue
            for request in requests:
                self.counters["duty_requests"] += 1
                self._inputs.append(Submitted(request, spread=False))

    # What goes out.

    def _carry_out(self) -> None:
        """Write first, then send: in this order, whatever happens."""
        effects, self._effects = self._effects, []
        executed: list[Executed] = []
        for effect in effects:
            if isinstance(effect, Persist):
                self._journal.append(effect.record, urgent=effect.urgent)
            elif isinstance(effect, Executed):
                executed.append(effect)
            elif isinstance(effect, KeepSnapshot):
                kept = self._journal.keep_snapshot(effect.sequence, effect.snapshot)
                self._note(kept, "snapshot_taken", sequence=effect.sequence, bytes=len(effect.snapshot))
            elif isinstance(effect, Compact):
                self._journal.flush()
                self._remember(executed)
                self._history.sync()  # what leaves the log must be here for certain
                done = self._journal.compact(effect.proof)
                self._note(done, "log_compacted", sequence=effect.proof.sequence, bytes=self._journal.file.size_bytes)
        self._journal.flush()
        self._remember(executed)
        for effect in effects:
            self._send(effect)
        self._reply()
        for route, answer in self._answers:
            self._answer(route, answer)
        self._answers.clear()
        self._push()
        for each in executed:
            self._tell_duties(each)

    def _send(self, effect: Effect) -> None:
        if isinstance(effect, Broadcast):
            everybody = OUTSIDERS if self.index != NO_SEAT else 2 * OUTSIDERS
            self._links.broadcast(encode_message(effect.message), everybody)
        elif isinstance(effect, Send):
            self._send_message(effect.to, effect.message)
        elif isinstance(effect, SendReply):
            for route in self._waiting.pop(effect.digest):
                answer = Answered(effect.digest, effect.sequence, effect.time_ms, effect.reply)
                self._replies.setdefault(route, []).append(answer)
        elif isinstance(effect, SendRefusal):
            refusal = RequestRefused(effect.digest, *error_to_wire(effect.error))
            for route in self._waiting.pop(effect.digest):
                self._answer(route, refusal)
        elif isinstance(effect, SetTimer):
            self._timer_ms = effect.at_ms
        elif isinstance(effect, ServeDecisions):
            batches = self._journal.decisions(effect.first, effect.last, _DECISIONS_BYTES)
            self._send_message(effect.to, Decisions(tuple(batches)))
        elif isinstance(effect, ServeChunk):
            data = self._journal.read_chunk(effect.sequence, effect.index)
            if data is not None:
                self._send_message(effect.to, Chunk(effect.sequence, effect.index, data))
        elif isinstance(effect, ReportEquivocation):
            evidence = effect.evidence.first
            self._log.warning("equivocation", accused=effect.accused, view=evidence.view, sequence=evidence.sequence)
            if self._witness is not None:
                self._witness(effect.evidence)
        elif isinstance(effect, MembersChanged):
            self._take_seat(effect.membership)
        elif isinstance(effect, Halt):
            raise effect.error

    def _send_message(self, to: int, message: Message) -> None:
        self._links.send(to, encode_message(message))

    def _reply(self) -> None:
        """Tell each connection in one frame, or as few as may be, what became of its requests."""
        for route, answers in self._replies.items():
            room, first = _ANSWERS_BYTES, 0
            for index, answer in enumerate(answers):
                room -= len(answer.reply) + _ANSWER_ROOM_BYTES
                if room < 0 and index > first:
                    self._answer(route, AnsweredAll(tuple(answers[first:index])))
                    room, first = _ANSWERS_BYTES, index
            rest = answers[first:]
            self._answer(route, rest[0] if len(rest) == 1 else AnsweredAll(tuple(rest)))
        self._replies.clear()

    def _answer(self, route: bytes, answer: Answer) -> None:
        try:
            self._clients.send_multipart([route, encode_frame(answer)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.counters["answers_unsent"] += 1

    def _push(self) -> None:
        read: dict[int, list[HistoryRow]] = {}
        for stream in self._streams.owed(self._history.height, _clock_ms()):
            first = stream.next_sequence
            if first not in read:
                read[first] = self._history.read(first, _PUSHES_A_TURN)
            for row in read[first][: stream.credit]:
                self._answer(stream.route, Pushed(stream.stream, row.sequence, row.time_ms, row.events))
                stream.next_sequence, stream.credit = row.sequence + 1, stream.credit - 1

    def _tell_duties(self, executed: Executed) -> None:
        self._duty_at_ms = 0
        for duty in self._duties:
            try:
                duty.on_batch(executed.sequence, executed.time_ms, executed.execution.events)
            except Exception:  # a duty's fault must not take the ordering down with it
                self.counters["duty_errors"] += 1
                self._log.exception("duty_failed", duty=type(duty).__name__)

    def _remember(self, executed: Sequence[Executed]) -> None:
        self._history.append([HistoryRow(each.sequence, each.time_ms, each.execution.events) for each in executed])

    def _note(self, done: bool, event: str, **facts: int) -> None:
        if done:
            self._log.info(event, **facts)
        else:
            self.counters["descriptors_lacking"] += 1
            self._log.warning("descriptors_lacking", instead_of=event, **facts)

    # What it says about itself.

    def totals(self) -> dict[str, int]:
        """Everything that was counted since the process started, by name."""
        parts: Iterable[Counter[str]] = (
            self.counters,
            self.replica.counters,
            self._links.counters,
            self._queue.counters,
        )
        totals: Counter[str] = Counter()
        for part in parts:
            totals.update(part)
        totals["keys_refused"] = self._gate.refused
        totals["log_bytes"] = self._journal.file.size_bytes
        totals["requests_pending"] = len(self.replica.pool)
        totals["batches_open"] = self.replica.open_batches
        heard_since_ms = _clock_ms() - _HEARD_LATELY_MS * max(1, self.config.n // 16)
        totals["peers_heard"] = sum(at_ms >= heard_since_ms for at_ms in self._heard_ms.values())
        totals["resident_bytes"] = _resident_bytes()
        totals["uptime_ms"] = _clock_ms() - self._started_ms
        return dict(totals)

    def metrics(self) -> str:
        """The same in Prometheus text form."""
        replica = self.replica
        gauges = {
            "view": replica.view,
            "view_changing": int(replica.changing),
            "executed_sequence": replica.executed,
            "executed_time_ms": replica.time_ms,
            "stable_sequence": replica.low,
        }
        lines = [f"pot_lab_{name} {value}" for name, value in gauges.items()]
        lines += [f"pot_lab_{name} {value}" for name, value in sorted(self.totals().items())]
        return "\n".join(lines) + "\n"

    # Its files.

    def _lock_data_dir(self) -> int:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            return acquire_lock(self.data_dir / "lock")
        except OSError as error:
            raise BadDataDir(f"cannot use the data directory {self.data_dir}: {error.strerror}") from error
        except FileLocked as error:
            raise DataDirLocked(f"another process works in {self.data_dir}") from error

    def _close_journal(self) -> None:
        if sys.exc_info()[0] is None:
            self._journal.close()
            return
        try:
            self._journal.close()
        except (PotLabError, OSError):
            pass  # the error on its way up says already why


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
