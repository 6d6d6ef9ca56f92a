"""How fast this machine is right now: figures from different hours compare only beside these."""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from typing import Any

import coincurve


def calibrate() -> dict[str, Any]:
    """secp256k1 verifications a second, and the median time of an append with `fdatasync` in milliseconds."""
    key = coincurve.PrivateKey(b"\x01" * 32)
    digest = b"\x02" * 32
    signature = key.sign_recoverable(digest, hasher=None)
    rates = []
    for _ in range(5):
        start, count = time.perf_counter(), 400
        for _ in range(count):
            coincurve.PublicKey.from_signature_and_message(signature, digest, hasher=None)
        rates.append(count / (time.perf_counter() - start))
    syncs = []
    with tempfile.NamedTemporaryFile(dir=os.environ.get("TMPDIR")) as file:
        for _ in range(50):
            file.write(b"x" * 512)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            syncs.append((time.perf_counter() - start) * 1000)
    return {
        "recover_per_s": round(statistics.median(rates)),
        "fdatasync_ms": round(statistics.median(syncs), 3),
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    print(json.dumps(calibrate()))
