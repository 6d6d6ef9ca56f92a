"""Real aggregator processes over CURVE: requests, crashes, restarts, strangers, floods and full disks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from pot_lab.consensus.parameters import ConsensusParameters
from pot_lab.crypto.identity import BadSignature, Identity
from pot_lab.errors import Malformed, Oversize
from pot_lab.network.client.calls import Call
from pot_lab.network.client.client import NetworkClient
from pot_lab.network.config import NetworkConfig
from pot_lab.network.errors import CallTimeout, ClientClosed, NoAgreement, RemoteError, Unreachable, WrongServerKey
from pot_lab.network.keys import CurveKeyPair
from pot_lab.network.loopback import free_ports
from tests.network.dealer import prepare_dealer
from tests.network.toy import ToyNetwork, toy_request

PATIENCE_S = 240


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyNetwork]:
    """Four aggregators that all tests of this module share, each with its own account."""
    with ToyNetwork(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture
def client(network: ToyNetwork) -> Iterator[NetworkClient]:
    with NetworkClient(network.config) as client:
        yield client


@pytest.fixture
def account() -> Identity:
    return Identity.generate()


def submit_all(client: NetworkClient, account: Identity, nonces: range, pause_s: float = 0.0) -> list[Call[bytes]]:
    calls = []
    for nonce in nonces:
        calls.append(client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S))
        time.sleep(pause_s)
    return calls


# Requests.


def test_requests_are_executed_once_each(client: NetworkClient, account: Identity) -> None:
    replies = [call.result(PATIENCE_S) for call in submit_all(client, account, range(100))]
    assert all(reply.isdigit() for reply in replies) and len(set(replies)) == 100


def test_many_requests_in_one_call_keep_their_order_and_lose_none(client: NetworkClient, account: Identity) -> None:
    requests = [toy_request(account, nonce, b"x" * 300) for nonce in range(1_500)]
    replies = [call.result(PATIENCE_S) for call in client.submit_all(requests, timeout_s=PATIENCE_S)]
    assert [int(reply) for reply in replies] == list(range(int(replies[0]), int(replies[0]) + len(requests)))


def test_an_aggregator_that_is_woken_interrupts_nobody(network: ToyNetwork, client: NetworkClient) -> None:
    client.status().result(PATIENCE_S)
    for process in network.processes.values():
        threads = [int(name) for name in os.listdir(f"/proc/{process.pid}/task")]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_BATCH}


def test_a_connection_that_says_more_than_a_turn_takes_loses_nothing(
    network: ToyNetwork, client: NetworkClient, account: Identity
) -> None:
    requests = [toy_request(account, nonce) for nonce in range(250)]
    others = [Identity.generate() for _ in range(6)]
    with NetworkClient(network.config, in_flight=1_500) as eager:
        calls = eager.submit_all([toy_request(other, nonce) for nonce in range(250) for other in others])
        replies = [call.result(PATIENCE_S) for call in client.submit_all(requests, timeout_s=PATIENCE_S)]
        assert all(reply.isdigit() for reply in replies)
        assert all(call.result(PATIENCE_S).isdigit() for call in calls)
    dropped = [each.counters.get("client_frames_dropped", 0) for each in client.status().result(PATIENCE_S)]
    assert dropped == [0, 0, 0, 0]


def test_a_retry_of_the_same_bytes_gets_the_same_reply(network: ToyNetwork, account: Identity) -> None:
    request = toy_request(account, 1)
    replies = []
    for _ in range(3):
        with NetworkClient(network.config) as client:
            replies.append(client.submit(request).result(PATIENCE_S))
    assert replies[0].isdigit() and replies == [replies[0]] * 3


def test_the_same_bytes_submitted_together_are_one_request(client: NetworkClient, account: Identity) -> None:
    request = toy_request(account, 1)
    replies = {client.submit(request).result(PATIENCE_S) for _ in range(2)}
    replies |= {call.result(PATIENCE_S) for call in [client.submit(request) for _ in range(5)]}
    assert len(replies) == 1


def test_a_call_can_be_awaited(client: NetworkClient, account: Identity) -> None:
    async def ask() -> list[bytes]:
        return await asyncio.gather(*(client.submit(toy_request(account, nonce)) for nonce in range(3)))

    assert all(reply.isdigit() for reply in asyncio.run(ask()))


def test_a_refused_request_raises_the_aggregators_own_error(client: NetworkClient, account: Identity) -> None:
    with pytest.raises(Malformed, match="no toy request"):
        client.submit(b"short").result(PATIENCE_S)
    with pytest.raises(BadSignature):
        client.submit(b"\xff" * 80).result(PATIENCE_S)
    with pytest.raises(Oversize, match="262144"):
        client.submit(toy_request(account, 1, bytes(300_000))).result(PATIENCE_S)
    with pytest.raises(Oversize):
        client.submit(toy_request(account, 1, bytes(600_000)))


def test_a_large_request_is_executed(client: NetworkClient, account: Identity) -> None:
    assert client.submit(toy_request(account, 1, bytes(200_000))).result(PATIENCE_S).isdigit()


def test_queries_are_answered_and_refused_by_agreement(client: NetworkClient, account: Identity) -> None:
    total = int(client.submit(toy_request(account, 1)).result(PATIENCE_S))
    assert int(client.query("total").result(PATIENCE_S)) == total
    with pytest.raises(RemoteError, match=r"UnknownToyQuestion: .*seen: weather"):
        client.query("weather").result(PATIENCE_S)


def test_more_requests_at_once_than_an_aggregator_holds_for_one_account(
    client: NetworkClient, account: Identity
) -> None:
    """Refused ones would come again after later nonces, which would void them in the ledger; so the client keeps them
    back, and they run in their order while nothing changes the view.
    """
    for first in range(0, 3_000, 1_000):
        views = {state.view for state in client.status().result(PATIENCE_S)}
        calls = submit_all(client, account, range(first, first + 3 * ConsensusParameters().pending_per_account))
        replies = [int(call.result(PATIENCE_S)) for call in calls]
        assert len(set(replies)) == len(calls)
        if len(views | {state.view for state in client.status().result(PATIENCE_S)}) == 1:
            assert replies == sorted(replies)
            return
    pytest.skip("the view changed each time: this machine is too busy to show an order")


def test_a_request_that_never_got_its_turn_ends_in_time_all_the_same(network: ToyNetwork, account: Identity) -> None:
    elsewhere = msgspec.structs.replace(
        network.config,
        aggregators=tuple(
            msgspec.structs.replace(entry, client_port=port)
            for entry, port in zip(network.config.aggregators, free_ports(4), strict=True)
        ),
    )
    with NetworkClient(elsewhere, in_flight=1) as client:
        calls = [client.submit(toy_request(account, nonce), timeout_s=0.3 + 0.2 * nonce) for nonce in range(3)]
        for call in reversed(calls):
            with pytest.raises(Unreachable):
                call.result(PATIENCE_S)


def test_a_query_settles_while_requests_flow(client: NetworkClient, account: Identity) -> None:
    calls = submit_all(client, account, range(300))
    answers = [int(client.query("total", timeout_s=PATIENCE_S).result(PATIENCE_S)) for _ in range(10)]
    assert answers == sorted(answers)
    assert all(call.result(PATIENCE_S).isdigit() for call in calls)


def test_status_and_metrics_show_every_aggregator(
    network: ToyNetwork, client: NetworkClient, account: Identity
) -> None:
    client.submit(toy_request(account, 1)).result(PATIENCE_S)
    states = network.wait_for_heights(client, {0, 1, 2, 3}, 1)
    assert [state.index for state in states] == [0, 1, 2, 3]
    assert all(state.reachable and state.lag == 0 and state.primary == state.view % 4 for state in states)
    assert len({state.state for state in states}) == 1
    assert all(0 < state.counters["resident_bytes"] < 45 * 1024 * 1024 for state in states)
    metrics = client.ask(2, "metrics").result(PATIENCE_S).decode()
    assert "pot_lab_executed_sequence " in metrics and metrics.endswith("\n")


# Subscriptions.


class Listener:
    """Collects what a subscription delivers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, tuple[bytes, ...]]] = []
        self._changed = threading.Condition()

    def __call__(self, sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        with self._changed:
            self.rows.append((sequence, time_ms, events))
            self._changed.notify_all()

    def wait_for(self, event: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: any(event in row[2] for row in self.rows), PATIENCE_S)


def test_a_subscription_gives_past_and_new_batches_in_order_without_gaps(
    network: ToyNetwork, client: NetworkClient, account: Identity
) -> None:
    for call in submit_all(client, account, range(150), 0.002):
        call.result(PATIENCE_S)
    from_first, from_tenth = Listener(), Listener()
    client.subscribe(from_first)
    subscription = client.subscribe(from_tenth, from_sequence=10)
    client.submit(toy_request(account, 1_000)).result(PATIENCE_S)
    last = toy_request(account, 1_000)[65:]
    from_first.wait_for(last)
    from_tenth.wait_for(last)
    assert [row[0] for row in from_first.rows] == list(range(1, len(from_first.rows) + 1))
    rows = list(from_tenth.rows)  # either may have one more by now
    assert rows == from_first.rows[9 : 9 + len(rows)]
    times = [row[1] for row in from_first.rows]
    assert times == sorted(times)

    subscription.close()
    client.submit(toy_request(account, 1_001)).result(PATIENCE_S)
    from_first.wait_for(toy_request(account, 1_001)[65:])
    assert from_tenth.rows == from_first.rows[9 : 9 + len(from_tenth.rows)]
    assert toy_request(account, 1_001)[65:] not in from_tenth.rows[-1][2]


def test_a_callback_that_fails_does_not_end_the_stream(client: NetworkClient, account: Identity) -> None:
    good, seen = Listener(), []

    def bad(sequence: int, time_ms: int, events: tuple[bytes, ...]) -> None:
        seen.append(sequence)
        raise RuntimeError("the user's own fault")

    client.submit(toy_request(account, 0)).result(PATIENCE_S)
    client.subscribe(bad)
    client.subscribe(good)
    client.submit(toy_request(account, 1)).result(PATIENCE_S)
    good.wait_for(toy_request(account, 1)[65:])
    deadline = time.monotonic() + PATIENCE_S
    while len(seen) < 2:
        assert time.monotonic() < deadline, seen
        time.sleep(0.01)
    assert seen == sorted(set(seen))


# Crashes.


def test_a_killed_backup_changes_nothing_and_catches_up(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path) as network, NetworkClient(network.config) as client:
        listener = Listener()
        client.subscribe(listener)
        calls = submit_all(client, account, range(100), 0.003)
        network.kill(2)
        calls += submit_all(client, account, range(100, 200), 0.003)
        assert all(call.result(PATIENCE_S).isdigit() for call in calls)
        network.start(2)
        calls = submit_all(client, account, range(200, 300), 0.003)
        assert all(call.result(PATIENCE_S).isdigit() for call in calls)
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        listener.wait_for(toy_request(account, 299)[65:])
        assert sorted(event for row in listener.rows for event in row[2]) == [
            toy_request(account, nonce)[65:] for nonce in range(300)
        ]
        network.kill(1)
        assert client.submit(toy_request(account, 300)).result(PATIENCE_S) == b"301"


@pytest.mark.parametrize("cut", [0, 1, 9, 200, 4_000], ids=lambda cut: f"{cut} bytes torn")
def test_all_aggregators_killed_at_once_come_back_with_everything(tmp_path: Path, account: Identity, cut: int) -> None:
    """A power cut: all processes die with requests open; the end of one log may be torn as well."""
    with ToyNetwork(tmp_path) as network, NetworkClient(network.config) as client:
        done = [call.result(PATIENCE_S) for call in submit_all(client, account, range(50))]
        open_calls = submit_all(client, account, range(50, 100), 0.001)
        for index in range(4):
            network.processes[index].kill()
        for index in range(4):
            network.kill(index)
        path = network.data_dir(3) / "replica.log"
        os.truncate(path, max(0, path.stat().st_size - cut))  # it may be far behind the others
        for index in range(4):
            network.start(index)
        assert all(call.result(PATIENCE_S).isdigit() for call in open_calls)
        again = client.submit(toy_request(account, 0)).result(PATIENCE_S)
        assert again == done[0]
        assert client.submit(toy_request(account, 100)).result(PATIENCE_S) == b"101"
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        assert client.query("total").result(PATIENCE_S) == b"101"


def test_a_clean_stop_ends_with_code_zero_and_leaves_nothing_locked(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        client.submit(toy_request(account, 0)).result(PATIENCE_S)
        assert [network.stop(index) for index in range(4)] == [0, 0, 0, 0]
        for index in range(4):
            network.start(index)
        assert client.submit(toy_request(account, 1)).result(PATIENCE_S) == b"2"
        lines = [line for line in network.stderr(0).splitlines() if " info ready " in line or " info stopped " in line]
        assert " info ready index=0 " in lines[0] and " info stopped " in lines[1]


def test_a_subscription_survives_the_restart_of_everyone(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        listener = Listener()
        client.subscribe(listener)
        for call in submit_all(client, account, range(20), 0.002):
            call.result(PATIENCE_S)
        for index in range(4):
            network.kill(index)
        for index in range(4):
            network.start(index)
        client.submit(toy_request(account, 20)).result(PATIENCE_S)
        listener.wait_for(toy_request(account, 20)[65:])
        assert [row[0] for row in listener.rows] == list(range(1, len(listener.rows) + 1))


# What cannot be reached.


def test_an_aggregator_that_is_away_is_named_and_does_not_matter(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        network.kill(3)
        assert client.submit(toy_request(account, 0)).result(PATIENCE_S) == b"1"
        deadline = time.monotonic() + PATIENCE_S
        while "nothing answers" not in (state := client.status(timeout_s=0.3).result(PATIENCE_S)[3]).reason:
            assert time.monotonic() < deadline
        assert not state.reachable and str(network.config.aggregators[3].client_port) in state.reason


def test_when_all_are_away_the_error_names_each(tmp_path: Path, account: Identity) -> None:
    config = ToyNetwork(tmp_path).config
    with NetworkClient(config) as client:
        timeout_s, told = 0.5, ""
        while "aggregator 2: nothing answers at 127.0.0.1" not in told:  # what a busy machine does not know at once
            assert timeout_s < PATIENCE_S, told
            with pytest.raises(Unreachable) as caught:
                client.submit(toy_request(account, 0), timeout_s=timeout_s).result(PATIENCE_S + timeout_s)
            assert sorted(caught.value.reasons) == [0, 1, 2, 3]
            timeout_s, told = 2 * timeout_s, str(caught.value)
        with pytest.raises(Unreachable, match="total"):
            client.query("total", timeout_s=0.2).result(PATIENCE_S)
        assert [state.reachable for state in client.status(timeout_s=0.2).result(PATIENCE_S)] == [False] * 4


def other_key(config: NetworkConfig, indices: range) -> NetworkConfig:
    entries = [
        msgspec.structs.replace(entry, curve_public=CurveKeyPair.generate().public) if entry.index in indices else entry
        for entry in config.aggregators
    ]
    return msgspec.structs.replace(config, aggregators=tuple(entries))


def test_wrong_server_keys_are_called_by_their_name(network: ToyNetwork, account: Identity) -> None:
    with NetworkClient(other_key(network.config, range(3))) as client:
        timeout_s, error = 6.0, Unreachable("not asked yet", {})
        while not isinstance(error, WrongServerKey) and timeout_s <= PATIENCE_S:  # a busy machine may not know by then
            with pytest.raises(Unreachable) as caught:
                client.submit(toy_request(account, 0), timeout_s=timeout_s).result(PATIENCE_S + timeout_s)
            error, timeout_s = caught.value, 4 * timeout_s
        assert isinstance(error, WrongServerKey) and "does not have the key in network.toml" in str(error)
        assert "answered" in error.reasons[3] or "did not answer" in error.reasons[3]


def test_one_wrong_server_key_does_not_matter(network: ToyNetwork, account: Identity) -> None:
    with NetworkClient(other_key(network.config, range(1))) as client:
        assert client.submit(toy_request(account, 0)).result(PATIENCE_S).isdigit()


@pytest.mark.parametrize("host", ["a b", "-", "no-such-host.invalid", "é", "::1", "*", ""])
def test_one_host_that_cannot_be_connected_to_does_not_matter(
    network: ToyNetwork, account: Identity, host: str
) -> None:
    """An aggregator chooses its host itself, and the first in the list must not keep the others from being tried."""
    first, *others = network.config.aggregators
    entries = (msgspec.structs.replace(first, host=host), *others)
    with NetworkClient(msgspec.structs.replace(network.config, aggregators=entries)) as client:
        assert client.submit(toy_request(account, 0)).result(PATIENCE_S).isdigit()
        assert not client.status(timeout_s=0.2).result(PATIENCE_S)[0].reachable


def test_one_key_that_is_none_does_not_matter(network: ToyNetwork, account: Identity) -> None:
    first, *others = network.config.aggregators
    entries = (msgspec.structs.replace(first, curve_public="#" * 40), *others)
    with NetworkClient(msgspec.structs.replace(network.config, aggregators=entries)) as client:
        assert client.submit(toy_request(account, 0)).result(PATIENCE_S).isdigit()
        assert "names no CURVE key" in client.status(timeout_s=0.2).result(PATIENCE_S)[0].reason


def test_one_aggregators_answer_alone_is_no_agreement(network: ToyNetwork, client: NetworkClient) -> None:
    timeout_s, error = 1.0, Unreachable("not asked yet", {})
    while not isinstance(error, NoAgreement) and timeout_s <= PATIENCE_S:  # a busy machine may not answer in a second
        with pytest.raises(Unreachable, match="alike") as caught:
            client.query("metrics", timeout_s=timeout_s).result(PATIENCE_S + timeout_s)
        error, timeout_s = caught.value, 4 * timeout_s
    assert isinstance(error, NoAgreement), error


def test_a_result_that_is_not_there_yet_says_so_and_the_call_goes_on(tmp_path: Path, account: Identity) -> None:
    with ToyNetwork(tmp_path, durability="flush") as network, NetworkClient(network.config) as client:
        network.kill(2)
        network.kill(3)
        call = client.submit(toy_request(account, 0), timeout_s=PATIENCE_S)
        with pytest.raises(CallTimeout):
            call.result(0.3)
        network.start(2)
        assert call.result(PATIENCE_S) == b"1"


def test_a_closed_client_fails_what_was_open_and_leaves_no_thread(tmp_path: Path, account: Identity) -> None:
    before = set(threading.enumerate())
    client = NetworkClient(ToyNetwork(tmp_path).config)
    calls = [client.submit(toy_request(account, 0)), client.query("total"), client.status(timeout_s=30)]
    client.close()
    client.close()
    for call in [*calls, client.query("total")]:
        with pytest.raises(ClientClosed):
            call.result(PATIENCE_S)
    with pytest.raises(ClientClosed):
        client.subscribe(Listener())
    assert set(threading.enumerate()) <= before


def test_a_forked_child_is_told_that_the_client_is_not_its_own(network: ToyNetwork, client: NetworkClient) -> None:
    client.query("total").result(PATIENCE_S)
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # a child that hangs would hold open what the runner of the tests waits for
        try:
            client.query("total").result(1)
        except ClientClosed:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    client.query("total").result(PATIENCE_S)


# Strangers, garbage and floods.


def dealer(context: zmq.Context[zmq.Socket[bytes]], url: str, server_key: str) -> zmq.Socket[bytes]:
    made = context.socket(zmq.DEALER)
    prepare_dealer(made, CurveKeyPair.generate(), server_key)
    made.connect(url)
    return made


def test_garbage_on_every_port_and_of_every_size_stops_nobody(
    network: ToyNetwork, client: NetworkClient, account: Identity
) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    raw, speakers = [], []
    for entry in network.config.aggregators:
        for url, port in ((entry.client_url, entry.client_port), (entry.peer_url, entry.peer_port)):
            speaker = dealer(context, url, entry.curve_public)
            for frames in (
                [b""],
                [b"\0"],
                [os.urandom(17)],
                [os.urandom(1_000)],
                [os.urandom(500_000)],
                [b"a", b"b", b""],
            ):
                try:
                    speaker.send_multipart(frames, zmq.NOBLOCK)
                except zmq.Again:
                    pass  # refused on the peer port: no connection to take it
            speakers.append(speaker)
            plain = socket.create_connection(("127.0.0.1", port))
            plain.sendall(os.urandom(3_000))
            raw.append(plain)
    assert client.submit(toy_request(account, 0)).result(PATIENCE_S).isdigit()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        states = client.status().result(PATIENCE_S)
        counters = [state.counters for state in states]
        if all(each.get("client_frames_malformed", 0) >= 6 and each.get("keys_refused", 0) >= 1 for each in counters):
            break
        assert time.monotonic() < deadline, counters
        time.sleep(0.05)
    for plain in raw:
        plain.close()
    context.destroy(0)
    assert all(process.poll() is None for process in network.processes.values())


def test_a_flooding_client_does_not_keep_another_out(
    network: ToyNetwork, client: NetworkClient, account: Identity
) -> None:
    flooder = Identity.generate()
    frames = [msgspec.msgpack.encode((1, toy_request(flooder, nonce), True)) for nonce in range(2_000)]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    speakers = [dealer(context, entry.client_url, entry.curve_public) for entry in network.config.aggregators]
    for frame in frames:
        for speaker in speakers:
            try:
                speaker.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                pass  # its own queue is full: the flood is as thick as it gets
    replies = [client.submit(toy_request(account, nonce), timeout_s=PATIENCE_S) for nonce in range(5)]
    assert all(reply.result(PATIENCE_S).isdigit() for reply in replies)
    context.destroy(0)


# Starting.


def test_a_taken_port_a_locked_directory_and_bad_keys_end_the_process_with_one_line(tmp_path: Path) -> None:
    network = ToyNetwork(tmp_path, durability="flush")
    entry = network.config.aggregators[0]
    with network:
        network.kill(1)
        first = network.processes.pop(0)
        second = network.start(0)
        assert second.wait(PATIENCE_S) == 1
        assert "DataDirLocked" in network.stderr(0).splitlines()[-1]
        first.kill()
        first.wait()
        with socket.create_server(("127.0.0.1", entry.client_port)):
            assert network.start(0).wait(PATIENCE_S) == 1
        line = network.stderr(0).splitlines()[-1]
        assert line.startswith("aggregator 0 stopped: PortTaken: ") and str(entry.client_port) in line
        network.keys[0] = CurveKeyPair.generate()
        assert network.start(0).wait(PATIENCE_S) == 1
        assert "BadKeyFile" in network.stderr(0).splitlines()[-1]
        network.identities[1] = Identity.generate()
        assert network.start(1).wait(PATIENCE_S) == 1
        assert "BadKeyFile: this account" in network.stderr(1).splitlines()[-1]


def test_a_full_disk_stops_one_aggregator_with_a_line_and_loses_nothing(tmp_path: Path, account: Identity) -> None:
    network = ToyNetwork(tmp_path)
    with network, NetworkClient(network.config) as client:
        assert network.stop(3) == 0
        limited = network.start(3, TOY_FILE_LIMIT="40000")
        for nonce in range(100):
            assert client.submit(toy_request(account, nonce)).result(PATIENCE_S).isdigit()
        assert limited.wait(PATIENCE_S) == 1
        assert "DiskFull" in network.stderr(3).splitlines()[-1]
        network.start(3)
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)
        assert client.query("total").result(PATIENCE_S) == b"100"


def test_a_log_damaged_before_its_end_stops_the_process_and_names_the_place(tmp_path: Path, account: Identity) -> None:
    network = ToyNetwork(tmp_path, durability="flush")
    with network, NetworkClient(network.config) as client:
        for call in submit_all(client, account, range(20)):
            call.result(PATIENCE_S)
        network.wait_for_heights(client, {0, 1, 2, 3}, 1)  # f+1 answers do not say that its log has anything yet
        network.kill(3)
        path = network.data_dir(3) / "replica.log"
        raw = bytearray(path.read_bytes())
        raw[100] ^= 4
        path.write_bytes(raw)
        assert network.start(3).wait(PATIENCE_S) == 1
        assert "LogCorrupt" in network.stderr(3) and "damaged at byte 40" in network.stderr(3)
