"""ZMTP 3.1 under CURVE over plain sockets: what strangers reach instead of libzmq, with every buffer bounded."""
