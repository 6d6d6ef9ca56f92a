"""A ROUTER of libzmq under CURVE that any key may use, and which reads only once it is told: what the aggregator's port
for clients was. `python -m tests.network.zmtp.libzmq_router PORT SECRET HEARTBEAT_MS` binds, prints a line, and drains
when a line comes.
"""

from __future__ import annotations

import sys

import zmq

HIGH_WATER_MARK = 50


def main() -> None:
    port, secret, heartbeat_ms = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.CURVE_SECRETKEY, secret.encode())
        if heartbeat_ms:
            router.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
        router.bind(f"tcp://127.0.0.1:{port}")
        print("bound", flush=True)
        sys.stdin.readline()
        while router.poll(1_000):
            router.recv_multipart()
        print("drained", flush=True)


if __name__ == "__main__":
    main()
