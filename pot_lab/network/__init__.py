"""Processes and sockets: the aggregator, its log and history, and the client that accepts what f+1 of them vouch for.

Light by itself: ZeroMQ is loaded by the modules that use it.
"""

from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig

__all__ = ["AggregatorEntry", "ChainConfig", "NetworkConfig"]
