"""The handshake of CurveZMQ: both sides agree, prove their keys, and nothing that was changed or repeated passes."""

from __future__ import annotations

import pytest
from nacl import bindings

from pot_lab.errors import Malformed
from pot_lab.network.zmtp.curve import ClientHandshake, ServerHandshake

SERVER_PUBLIC, SERVER_SECRET = bindings.crypto_box_keypair()
CLIENT_PUBLIC, CLIENT_SECRET = bindings.crypto_box_keypair()


def sides(server_key: bytes = SERVER_PUBLIC, *, admits: bool = True) -> tuple[ClientHandshake, ServerHandshake]:
    client = ClientHandshake(CLIENT_SECRET, CLIENT_PUBLIC, server_key, b"DEALER")
    return client, ServerHandshake(SERVER_SECRET, SERVER_PUBLIC, b"ROUTER", lambda key: admits)


def joined() -> tuple[ClientHandshake, ServerHandshake]:
    client, server = sides()
    assert client.answer(server.answer(client.answer(server.answer(client.opening())))) == b""
    return client, server


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_both_sides_prove_their_keys_and_read_each_other() -> None:
    client, server = joined()
    assert (client.other_key, server.other_key) == (SERVER_PUBLIC, CLIENT_PUBLIC)
    assert client.channel is not None and server.channel is not None
    for sender, receiver in ((client.channel, server.channel), (server.channel, client.channel)):
        for body in (b"", b"x", bytes(100_000)):
            assert receiver.open(sender.seal(body)) == (False, False, body)
        assert receiver.open(sender.seal(b"\x04PING", is_command=True)) == (True, False, b"\x04PING")


def test_a_message_that_comes_again_or_was_changed_is_refused() -> None:
    client, server = joined()
    assert client.channel is not None and server.channel is not None
    first, second = client.channel.seal(b"first"), client.channel.seal(b"second")
    for at in range(len(second)):
        with pytest.raises(Malformed):
            server.channel.open(changed(second, at))
    with pytest.raises(Malformed, match="no CURVE message"):
        server.channel.open(second[:32])
    server.channel.open(second)
    for old in (second, first):
        with pytest.raises(Malformed, match="nonce"):
            server.channel.open(old)


@pytest.mark.parametrize("step", range(4))
def test_no_command_of_a_handshake_may_be_changed_cut_or_longer(step: int) -> None:
    client, server = sides()
    command = client.opening()
    for part in (server, client, server)[:step]:
        command = part.answer(command)
    padding = range(8, 80)  # of HELLO; nothing is in it
    for at in range(len(command)):
        client, server = sides()
        last, parts = client.opening(), [server, client, server, client]
        for part in parts[:step]:
            last = part.answer(last)
        if step == 0 and at in padding:
            continue
        for wrong in (changed(last, at), last[:at]):
            with pytest.raises(Malformed):
                parts[step].answer(wrong)


def test_a_key_that_is_not_admitted_gets_no_answer() -> None:
    client, server = sides(admits=False)
    initiate = client.answer(server.answer(client.opening()))
    with pytest.raises(Malformed, match="may not connect"):
        server.answer(initiate)
    assert server.refused and server.channel is None and server.other_key == b""


def test_another_servers_key_is_told_by_the_first_command() -> None:
    client, server = sides(bindings.crypto_box_keypair()[0])
    with pytest.raises(Malformed, match="does not open"):
        server.answer(client.opening())


@pytest.mark.parametrize("point", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_a_key_of_small_order_is_refused(point: bytes) -> None:
    client, server = sides()
    hello = client.opening()
    with pytest.raises(Malformed):
        server.answer(hello[:80] + point + hello[112:])


def test_a_handshake_of_one_connection_does_not_fit_another() -> None:
    client, server = sides()
    initiate = client.answer(server.answer(client.opening()))
    other_client, other_server = sides()
    other_server.answer(other_client.opening())
    with pytest.raises(Malformed, match="cookie"):
        other_server.answer(initiate)
