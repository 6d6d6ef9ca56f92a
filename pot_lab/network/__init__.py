"""Processes and sockets: the aggregator, its log and history, and the client that believes f+1 of them.

Light by itself: ZeroMQ is loaded by the modules that use it.
"""

from pot_lab.network.config import AggregatorEntry, ChainConfig, NetworkConfig

__all__ = ["AggregatorEntry", "ChainConfig", "NetworkConfig"]
