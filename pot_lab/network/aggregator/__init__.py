"""The aggregator process: sockets, clients, log, history, metrics."""
