"""How fast this machine is right now: figures from different hours compare only beside these."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import Any

import coincurve

_ROUNDS, _EACH, _SYNCS = 5, 400, 50


def calibrate() -> dict[str, Any]:
    """What signatures and the disk cost, and how busy the machine is.

    Returns:
        verify_per_s, recover_per_s: secp256k1 verifications with a known key, and recoveries, a second on one core.
        fdatasync_ms: the median time of an append of 512 bytes with `fdatasync`, in $TMPDIR.
        load: the load average of the last minute.
    """
    key = coincurve.PrivateKey(b"\x01" * 32)
    digest, public = b"\x02" * 32, key.public_key
    recoverable, plain = key.sign_recoverable(digest, hasher=None), key.sign(digest, hasher=None)
    verify_s, recover_s = [], []
    for _ in range(_ROUNDS):
        start_s = time.perf_counter()
        for _ in range(_EACH):
            public.verify(plain, digest, hasher=None)
        middle_s = time.perf_counter()
        for _ in range(_EACH):
            coincurve.PublicKey.from_signature_and_message(recoverable, digest, hasher=None)
        verify_s.append(middle_s - start_s)
        recover_s.append(time.perf_counter() - middle_s)
    return {
        "verify_per_s": round(_EACH / statistics.median(verify_s)),
        "recover_per_s": round(_EACH / statistics.median(recover_s)),
        "fdatasync_ms": round(_fdatasync_ms(), 3),
        "load": round(os.getloadavg()[0], 2),
    }


def _fdatasync_ms() -> float:
    times_s = []
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR")) as file:
        for _ in range(_SYNCS):
            file.write(b"x" * 512)
            file.flush()
            start_s = time.perf_counter()
            os.fdatasync(file.fileno())
            times_s.append(time.perf_counter() - start_s)
    return 1_000 * statistics.median(times_s)
