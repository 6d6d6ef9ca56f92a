"""Why a blob could not be stored or fetched: one error for each thing that may be wrong with a link or a store."""

from __future__ import annotations

from pot_lab.errors import PotLabError


class LinkDead(PotLabError):
    """Nothing answers at the link's address, or what answers has no such blob.

    What to do: try again later, or ask the order's client to serve the blob again.
    """


class WrongHash(PotLabError):
    """The bytes at the link are not the bytes that the link names.

    What to do: fetch it from another address; do not use these bytes.
    """


class TooBig(PotLabError):
    """The blob is larger than the caller or the store accepts; refused before any of it was read.

    What to do: send a smaller file; the message names the limit.
    """


class TooSlow(PotLabError):
    """The whole transfer did not end within its time.

    What to do: try again on a faster connection, or with a longer time.
    """


class StoreFull(PotLabError):
    """The store, or the disk below it, has no room for the blob; nothing was written.

    What to do: make room in the store, or use another store.
    """


class MissingExtra(PotLabError):
    """The link's kind of address needs an optional package; the message names the extra to install.

    What to do: install the extra that the message names, such as `pip install 'pot-lab[cloud]'`.
    """


class UnusableAddress(PotLabError):
    """The address is of a kind that links may not have.

    What to do: use http, https, file, s3, gs, az or ipfs.
    """


class StoreBusy(PotLabError):
    """Another server serves this folder already.

    What to do: stop the other server, or serve another folder.
    """


class NotExpected(PotLabError):
    """Custody takes and serves only blobs that a reference in the ledger names and somebody pays for.

    What to do: name the blob in an order, a claim or a score first, with its exact length.
    """


class QuotaExceeded(PotLabError):
    """An account has named more bytes for custody than one account may.

    What to do: wait until some of its orders have ended, or send smaller files.
    """
