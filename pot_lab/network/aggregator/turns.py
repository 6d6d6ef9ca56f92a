"""The loop of an aggregator: wait, take in what came, one turn of consensus' driver, then answers and duties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Sequence

from pot_lab.consensus.driver import Driver
from pot_lab.consensus.messages import Forward, Message, decode_message
from pot_lab.consensus.steps import Effect, Input, Received, Submitted
from pot_lab.errors import PotLabError
from pot_lab.network.aggregator.clients import ClientService
from pot_lab.network.aggregator.history import History
from pot_lab.network.aggregator.outputs import AggregatorOutputs
from pot_lab.network.aggregator.peer_budget import ForwardFilter, PeerBudgets, is_measured
from pot_lab.network.aggregator.serving_clock import ServingClock
from pot_lab.network.duties.schedule import DutySchedule
from pot_lab.network.wire import MAX_PEER_FRAME_BYTES

_LONGEST_WAIT_MS = 1_000
_BUDGET_WAIT_MS = 5
POOL_REQUESTS = 4_000
"""While so many requests wait for their place in a batch, clients' requests wait in their queues: there, who sends
little has its turn, and in a full pool it would be refused. Less than what the replica holds, twice what open batches
hold.
"""


class Turns:
    """The turns of one aggregator, from recovery on.

    Args:
        driver: steps the replica and carries its effects out, to `outputs`.
        clients, duties: the other sources of inputs, beside the peers at the sockets of `outputs`.
        history: from which batches are pushed.
        budgets, forwards: what each peer may cost.
        counters: counts frames of peers that are dropped.
        serving: stands still while other processes have the processor.
        clock_ms: milliseconds since the Unix epoch.
    """

    def __init__(
        self,
        driver: Driver,
        outputs: AggregatorOutputs,
        clients: ClientService,
        duties: DutySchedule,
        *,
        history: History,
        budgets: PeerBudgets,
        forwards: ForwardFilter,
        counters: Counter[str],
        serving: ServingClock,
        clock_ms: Callable[[], int],
    ) -> None:
        self._driver, self._outputs, self._clients, self._duties = driver, outputs, clients, duties
        self._history, self._counters, self._clock_ms = history, counters, clock_ms
        self._budgets, self._forwards, self._serving = budgets, forwards, serving
        self._set_since = driver.replica.membership.since

    def recover(self) -> None:
        """Replay the journal; raises what `Driver.recover` raises."""
        for effects in self._driver.recover(self._clock_ms()):
            self._driver.carry_out(effects)
            self._finish(quiet=False)

    def take(self) -> None:
        """Wait for something to do, and do it.

        Raises:
            DiskFull, StateDiverged: the process must stop; what it acknowledged stays true.
        """
        sockets = self._outputs.sockets
        wait_ms = self._wait_ms()
        with self._serving.waiting(wait_ms / 1_000):
            ready = sockets.poll(wait_ms)
        now_ms = self._clock_ms()
        sockets.maintain()
        self._clients.receive(sockets.client_frames(ready, self._clients.wants))
        # Clients come first: a proposal of a peer may name their requests.
        room, quiet = POOL_REQUESTS - len(self._driver.replica.pool), self._is_quiet
        inputs: list[Input] = [*self._clients.take_up(now_ms, room, quiet=quiet)]
        self._receive_peers(ready, now_ms, inputs)
        requests = self._duties.poll(now_ms, woken=sockets.was_woken(ready))
        inputs += [Submitted(request, spread=False) for request in requests]
        self._driver.carry_out(self._step(now_ms, inputs))
        self._finish(quiet=not inputs and self._is_quiet)

    @property
    def _is_quiet(self) -> bool:
        """Whether the replica decides nothing."""
        replica = self._driver.replica
        return not (replica.open_batches or len(replica.pool))

    def _wait_ms(self) -> int:
        socket_ms, now_ms = self._outputs.sockets.wait_ms, self._clock_ms()
        if socket_ms == 0 and self._budgets.is_anyone_waiting:
            socket_ms = _BUDGET_WAIT_MS
        waits_ms = [_LONGEST_WAIT_MS, socket_ms, self._clients.wait_ms]
        waits_ms += [
            None if at_ms is None else at_ms - now_ms for at_ms in (self._duties.due_at_ms, self._outputs.timer_ms)
        ]
        return max(0, min(each for each in waits_ms if each is not None))

    def _receive_peers(self, ready: Container[object], now_ms: int, inputs: list[Input]) -> None:
        since, budgets = self._driver.replica.membership.since, self._budgets
        if since != self._set_since:  # numbers mean other peers
            self._set_since = since
            budgets.clear()
            self._forwards.clear()
        if budgets.is_anyone_waiting:
            self._counters["turns_with_a_peer_over_budget"] += 1
        for sender, frame in self._outputs.sockets.peer_frames(ready, budgets.wants):
            self._outputs.peers_heard.note(sender, now_ms)
            started_s = budgets.clock()
            message: Message | None = None
            try:
                message = decode_message(frame, limit_bytes=MAX_PEER_FRAME_BYTES)
            except PotLabError as error:
                self._counters["peer_frames_" + error.code.lower()] += 1
            budgets.charge_frame(sender, len(frame), budgets.clock() - started_s)
            if isinstance(message, Forward):
                message = self._forwards.admit(sender, message)
            if message is not None:
                inputs.append(Received(sender, message))

    def _step(self, now_ms: int, inputs: Sequence[Input]) -> list[Effect]:
        """Step the replica with all inputs, in their order; what may cost much by itself, and in its sender's time."""
        driver, budgets, membership = self._driver, self._budgets, self._driver.replica.membership
        effects: list[Effect] = []
        together: list[Input] = []

        def step(some: list[Input]) -> None:
            if driver.replica.membership is not membership:  # a sender is another set's number
                some = [each for each in some if not isinstance(each, Received)]
            effects.extend(driver.step(now_ms, some))

        for input_ in inputs:
            if not isinstance(input_, Received) or not is_measured(input_.message):
                together.append(input_)
            elif budgets.wants(input_.sender):
                step(together)
                together, started_s = [], budgets.clock()
                step([input_])
                budgets.charge(input_.sender, budgets.clock() - started_s)
            else:
                self._counters["peer_frames_over_budget"] += 1
        step(together)
        return effects

    def _finish(self, *, quiet: bool) -> None:
        """Send, answer clients and tell the duties, now that the log was written."""
        sockets, now_ms = self._outputs.sockets, self._clock_ms()
        sockets.flush_peers()
        self._clients.read(now_ms, quiet=quiet)
        self._clients.flush(sockets.answer)
        self._clients.push(self._history, now_ms, sockets.answer)
        sockets.flush()
        for batch in self._outputs.take_executed():
            self._duties.on_batch(batch.sequence, batch.time_ms, batch.execution.events)
