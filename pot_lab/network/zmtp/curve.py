"""CurveZMQ (ZeroMQ RFC 26): both sides of the handshake, and the box that every message travels in.

The cryptography is libsodium's (PyNaCl). A handshake gives the other side's long-term key, which it has proved; the
caller decides whether that key is admitted.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

from nacl import bindings
from nacl.exceptions import CryptoError

from pot_lab.errors import Malformed

_KEY_BYTES, _TAG_BYTES, _COOKIE_BYTES = 32, 16, 96
_HELLO = b"\x05HELLO\x01\x00"
_HELLO_BYTES = 200
_WELCOME = b"\x07WELCOME"
_INITIATE = b"\x08INITIATE"
_INITIATE_LEAST_BYTES = 9 + _COOKIE_BYTES + 8 + _KEY_BYTES + 16 + 80 + _TAG_BYTES
_READY = b"\x05READY"
_MESSAGE = b"\x07MESSAGE"
_MESSAGE_LEAST_BYTES = 8 + 8 + _TAG_BYTES + 1
_MORE, _COMMAND = 1, 2
HANDSHAKE_LIMIT_BYTES = 2_048
"""No command of a handshake is larger."""
MESSAGE_OVERHEAD_BYTES = _MESSAGE_LEAST_BYTES
"""How much larger a frame is than the message in it."""


class Opened(NamedTuple):
    """What was in a box."""

    is_command: bool
    more: bool
    body: bytes


class Channel:
    """An encrypted connection after its handshake; each side's messages carry nonces that only grow.

    Args:
        key: the precomputed key of both transient keys.
        is_server: which side this is.
        sent, received: the last nonce that was used in each direction.
    """

    def __init__(self, key: bytes, *, is_server: bool, sent: int, received: int) -> None:
        own, other = (b"S", b"C") if is_server else (b"C", b"S")
        self._own, self._other = b"CurveZMQMESSAGE" + own, b"CurveZMQMESSAGE" + other
        self._key, self._sent, self._received = key, sent, received

    def seal(self, body: bytes, *, is_command: bool = False) -> bytes:
        """The frame's body that carries a message."""
        self._sent += 1
        nonce = self._sent.to_bytes(8, "big")
        plain = (b"\2" if is_command else b"\0") + body
        return _MESSAGE + nonce + bindings.crypto_box_easy_afternm(plain, self._own + nonce, self._key)

    def open(self, body: bytes) -> Opened:
        """Open a frame's body; raises Malformed where it is no box of the other side, or comes again."""
        if len(body) < _MESSAGE_LEAST_BYTES or not body.startswith(_MESSAGE):
            raise Malformed("a frame after the handshake is no CURVE message", seen=body[:16])
        nonce = body[8:16]
        number = int.from_bytes(nonce, "big")
        if number <= self._received:
            raise Malformed("a CURVE nonce does not grow", seen=number, wanted=f"above {self._received}")
        plain = _open_easy(body[16:], self._other + nonce, self._key)
        self._received = number
        if plain[0] & ~(_MORE | _COMMAND):
            raise Malformed("a CURVE message has unknown flags", seen=plain[0])
        return Opened(bool(plain[0] & _COMMAND), bool(plain[0] & _MORE), plain[1:])


class ServerHandshake:
    """The side that listens. Give each command that arrives to `answer` until `channel` is there.

    Args:
        secret: the long-term secret key, 32 bytes.
        public: its public half.
        socket_type: what it calls itself, e.g. b"ROUTER".
        admits: whether the holder of this long-term public key, which it has just proved, may connect.
    Attributes:
        channel: None until the handshake is over.
        other_key: the other side's long-term public key, 32 bytes; empty until it is proved and admitted.
        refused: whether the other side proved a key that may not connect.
    """

    def __init__(self, secret: bytes, public: bytes, socket_type: bytes, admits: Callable[[bytes], bool]) -> None:
        self._secret, self._public, self._type, self._admits = secret, public, socket_type, admits
        self._client = self._own_secret = self._cookie = b""
        self.refused = False
        self.channel: Channel | None = None
        self.other_key = b""

    def opening(self) -> bytes:
        """What this side says first: nothing."""
        return b""

    def answer(self, command: bytes) -> bytes:
        """The command that answers this one; raises Malformed, after which the connection must end."""
        return self._ready(command) if self._cookie else self._welcome(command)

    def _welcome(self, hello: bytes) -> bytes:
        if len(hello) != _HELLO_BYTES or not hello.startswith(_HELLO):
            raise Malformed("the first CURVE command is no HELLO", seen=hello[:8])
        self._client, nonce = hello[80:112], hello[112:120]
        key = _agree(self._client, self._secret)
        if any(_open_easy(hello[120:], b"CurveZMQHELLO---" + nonce, key)):
            raise Malformed("a HELLO holds something", wanted="64 zeros")
        own_public, self._own_secret = bindings.crypto_box_keypair()
        self._cookie = secrets.token_bytes(_COOKIE_BYTES)
        nonce = secrets.token_bytes(16)
        return _WELCOME + nonce + bindings.crypto_box_easy_afternm(own_public + self._cookie, b"WELCOME-" + nonce, key)

    def _ready(self, initiate: bytes) -> bytes:
        if len(initiate) < _INITIATE_LEAST_BYTES or not initiate.startswith(_INITIATE):
            raise Malformed("the second CURVE command is no INITIATE", seen=initiate[:9])
        if not secrets.compare_digest(initiate[9:105], self._cookie):
            raise Malformed("an INITIATE lacks the cookie of its connection")
        nonce = initiate[105:113]
        key = _agree(self._client, self._own_secret)
        plain = _open_easy(initiate[113:], b"CurveZMQINITIATE" + nonce, key)
        other, vouch_nonce, vouch = plain[:32], plain[32:48], plain[48:128]
        if _open_easy(vouch, b"VOUCH---" + vouch_nonce, _agree(other, self._own_secret)) != self._client + self._public:
            raise Malformed("a vouch is for another connection")
        check_metadata(plain[128:])
        if not self._admits(other):
            self.refused = True
            raise Malformed("this CURVE key may not connect here", seen=other)
        self.other_key = other
        self.channel = Channel(key, is_server=True, sent=1, received=int.from_bytes(nonce, "big"))
        own_nonce = (1).to_bytes(8, "big")
        box = bindings.crypto_box_easy_afternm(_metadata(self._type), b"CurveZMQREADY---" + own_nonce, key)
        return _READY + own_nonce + box


class ClientHandshake:
    """The side that dials.

    Args:
        secret, public: its long-term keys, 32 bytes each.
        server_key: the long-term public key that the other side must have.
        socket_type: what it calls itself, e.g. b"DEALER".
    Attributes:
        channel: None until the handshake is over.
        other_key: `server_key` once the other side has proved it; empty before.
    """

    def __init__(self, secret: bytes, public: bytes, server_key: bytes, socket_type: bytes) -> None:
        self._secret, self._public, self._server, self._type = secret, public, server_key, socket_type
        self._own_public, self._own_secret = bindings.crypto_box_keypair()
        self._key = b""
        self.channel: Channel | None = None
        self.other_key = b""

    def opening(self) -> bytes:
        """The command that begins the handshake, after both greetings."""
        nonce = (1).to_bytes(8, "big")
        key = _agree(self._server, self._own_secret)
        box = bindings.crypto_box_easy_afternm(bytes(64), b"CurveZMQHELLO---" + nonce, key)
        return _HELLO + bytes(72) + self._own_public + nonce + box

    def answer(self, command: bytes) -> bytes:
        """The command that answers this one, empty after the last; raises Malformed, after which the connection must
        end.
        """
        return self._finish(command) if self._key else self._initiate(command)

    def _initiate(self, welcome: bytes) -> bytes:
        if len(welcome) != 168 or not welcome.startswith(_WELCOME):
            raise Malformed("the first CURVE answer is no WELCOME", seen=welcome[:8])
        plain = _open_easy(welcome[24:], b"WELCOME-" + welcome[8:24], _agree(self._server, self._own_secret))
        other, cookie = plain[:32], plain[32:]
        self._key = _agree(other, self._own_secret)
        vouch_nonce = secrets.token_bytes(16)
        vouch = bindings.crypto_box_easy_afternm(
            self._own_public + self._server, b"VOUCH---" + vouch_nonce, _agree(other, self._secret)
        )
        nonce = (2).to_bytes(8, "big")
        plain = self._public + vouch_nonce + vouch + _metadata(self._type)
        return (
            _INITIATE + cookie + nonce + bindings.crypto_box_easy_afternm(plain, b"CurveZMQINITIATE" + nonce, self._key)
        )

    def _finish(self, ready: bytes) -> bytes:
        if len(ready) < 14 + _TAG_BYTES or not ready.startswith(_READY):
            raise Malformed("the second CURVE answer is no READY", seen=ready[:16])
        nonce = ready[6:14]
        check_metadata(_open_easy(ready[14:], b"CurveZMQREADY---" + nonce, self._key))
        self.other_key = self._server
        self.channel = Channel(self._key, is_server=False, sent=2, received=int.from_bytes(nonce, "big"))
        return b""


def _metadata(socket_type: bytes) -> bytes:
    return b"\x0bSocket-Type" + len(socket_type).to_bytes(4, "big") + socket_type + b"\x08Identity" + bytes(4)


def check_metadata(data: bytes) -> None:
    """Raise Malformed unless these are whole properties; what they say decides nothing."""
    at = 0
    while at < len(data):
        value_at = at + 1 + data[at] + 4
        at = value_at + int.from_bytes(data[value_at - 4 : value_at], "big")
        if value_at > len(data) or at > len(data):
            raise Malformed("a property of a handshake is cut off")


def _agree(public: bytes, secret: bytes) -> bytes:
    try:
        return bindings.crypto_box_beforenm(public, secret)
    except CryptoError as error:
        raise Malformed("a CURVE key is no point", seen=public) from error


def _open_easy(box: bytes, nonce: bytes, key: bytes) -> bytes:
    try:
        return bindings.crypto_box_open_easy_afternm(box, nonce, key)
    except CryptoError as error:
        raise Malformed("a CURVE box does not open: another key, or changed bytes") from error
