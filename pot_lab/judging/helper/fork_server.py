"""A process that has imported and proven what a helper needs, and forks helpers on request (Linux only).

    python -P -m pot_lab.judging.helper.fork_server FOLDER NAME LINGER_S

A helper of its own takes some four seconds of processor time and 300 MB before it can answer; a testnet's aggregators
need one each at the same moment, and one that died over a hostile file must be replaced. The known answers are computed
once: forks run the same code with the same flags. The server reads no file of others.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from pot_lab.forking import ForkServer, claim, listen
from pot_lab.judging.limits import HelperLimits


class HelperWanted(NamedTuple):
    """The limits of a helper, and its end of the stream to the aggregator."""

    limits: HelperLimits
    stream: int


def parse(raw: bytes, descriptors: list[int]) -> HelperWanted:
    """A request from its message. Raises ValueError, TypeError or KeyError."""
    (stream,) = descriptors
    return HelperWanted(msgspec.json.decode(json.loads(raw)["limits"], type=HelperLimits), stream)


def main(arguments: list[str]) -> int:
    """Serve, or be a forked helper; returns the exit status."""
    folder, name, linger_s = Path(arguments[0]), arguments[1], float(arguments[2])
    lock = claim(folder, name)
    if lock is None:
        return 0  # another one serves
    os.chdir("/")
    listener, path = listen(folder, name)  # who asks meanwhile waits for less than its own helper would take

    import torch

    from pot_lab.judging.helper.main import prove, serve

    torch.set_num_threads(1)  # a pool of threads would not survive a fork
    proven = prove()
    gc.collect()
    gc.freeze()  # a collection in a fork touches none of it, so its memory stays shared
    wanted = ForkServer(listener, path, parse, linger_s=linger_s, tells_ends=True).serve()
    if wanted is None:
        path.unlink(missing_ok=True)
        os.close(lock)
        return 0
    os.close(lock)
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    sys.dont_write_bytecode = True
    os.chdir("/")
    torch.set_num_threads(wanted.limits.threads)
    os.dup2(wanted.stream, 0)
    os.close(wanted.stream)
    with socket.socket(fileno=0) as stream:
        return serve(stream, wanted.limits, proven)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
