"""The transaction of an account that is under way, on disk before it is sent.

A process that is killed after it sent one leaves it with the node, perhaps with too low a fee, and every later one
waits behind it. With this note the next process finishes it first. It is written under the account's turn
(`turns.py`), so there is one at most. It holds no key.
"""

from __future__ import annotations

import logging
from typing import Final

from pot_lab import home
from pot_lab.chain.fees import Fees
from pot_lab.crypto.canonical import Record, decode, encode
from pot_lab.errors import PotLabError
from pot_lab.files import make_private_folder, replace_durably

_log = logging.getLogger(__name__)
_LIMIT_BYTES: Final = 1 << 20


class Outgoing(Record, frozen=True, kw_only=True):
    """A transaction that may have been sent.

    Attributes:
        chain: hash of the chain's first block, or empty where the node does not give it.
        nonce, gas: as in the transaction; `to` is 20 bytes, or empty to create a contract.
        tip, most: wei per gas of the last version.
        names: hashes of all versions, 32 bytes each, oldest first.
    """

    chain: bytes
    nonce: int
    to: bytes
    data: bytes
    gas: int
    tip: int
    most: int
    names: tuple[bytes, ...]

    @property
    def fees(self) -> Fees:
        """What the last version offers."""
        return Fees(tip=self.tip, most=self.most)


class Outbox:
    """Notes the one transaction of an account that is under way.

    A disk that refuses is logged and hinders nothing: what is lost then is the help after a kill.

    Args:
        chain_id: the chain.
        account: its address, 20 bytes.
    """

    def __init__(self, chain_id: int, account: bytes) -> None:
        self._name = f"{chain_id}-{account.hex()}.sending"

    def load(self) -> Outgoing | None:
        """The transaction that an earlier process, or an earlier call, did not see the end of."""
        try:
            with (home.home() / "chain" / self._name).open("rb") as file:
                return decode(file.read(_LIMIT_BYTES + 1), Outgoing, limit_bytes=_LIMIT_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, PotLabError) as error:
            _log.warning("event=outbox_unusable reason=%r", str(error))
            return None

    def note(self, outgoing: Outgoing) -> None:
        """Write it down; on return it survives a power cut."""
        folder = home.home() / "chain"
        try:
            make_private_folder(folder)
            replace_durably(folder / self._name, encode(outgoing), mode=0o600)
        except (OSError, PotLabError) as error:
            _log.warning("event=outbox_not_written reason=%r", str(error))

    def clear(self) -> None:
        """Forget it: it was mined, or never sent."""
        try:
            (home.home() / "chain" / self._name).unlink(missing_ok=True)
        except OSError as error:
            _log.warning("event=outbox_not_cleared reason=%r", str(error))
