"""The contract ABI as web3.py encodes and decodes it, with addresses as 20 bytes and this package's errors.

The libraries are loaded at the first use, so that importing this room costs nothing. What comes from a node is not
trusted: whatever the decoder stumbles over is `Malformed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pot_lab.errors import Malformed
from pot_lab.protocol.settlement import NotEncodable

if TYPE_CHECKING:
    from eth_abi.codec import ABIDecoder, ABIEncoder


def encode(types: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode values as the arguments of a call: integers, 20-byte addresses, bytes, booleans, texts, sequences of
    these.

    Raises:
        NotEncodable: a value does not fit its type, or there are too many or too few.
    """
    from eth_abi.exceptions import EncodingError

    try:
        return bytes(_encoder().encode(types, values))
    except (EncodingError, TypeError, ValueError) as error:
        raise NotEncodable(f"a call's values do not fit ({', '.join(types)}): {error}") from error


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode what a contract returned, or an event's data.

    Raises:
        Malformed: the bytes are not an encoding of these types.
    """
    from eth_abi.exceptions import DecodingError

    try:
        return tuple(_decoder().decode(types, data))
    except (DecodingError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise Malformed(f"encoded data are not ({', '.join(types)}): {error}", seen=f"{len(data)} bytes") from error


def type_of(field: Mapping[str, Any]) -> str:
    """The canonical type of one entry of a contract's ABI; a struct is a tuple of its parts."""
    from eth_utils.abi import collapse_if_tuple

    return str(collapse_if_tuple(dict(field)))


@lru_cache(maxsize=1)
def _encoder() -> ABIEncoder:
    """web3's own: it does not pad bytes that are too short for their type, as the plain one does."""
    from web3 import Web3

    return Web3().codec


@lru_cache(maxsize=1)
def _decoder() -> ABIDecoder:
    from eth_abi.codec import ABIDecoder
    from eth_abi.decoding import AddressDecoder
    from eth_abi.registry import BaseEquals, registry

    class RawAddressDecoder(AddressDecoder):
        """An address as its 20 bytes, not as text."""

        decoder_fn = staticmethod(bytes)  # type: ignore[assignment]  # the library types it as text

    own = registry.copy()  # type: ignore[no-untyped-call]
    own.unregister_decoder("address")
    address = BaseEquals("address")  # type: ignore[no-untyped-call]
    own.register_decoder(address, RawAddressDecoder, label="address")
    return ABIDecoder(own)
