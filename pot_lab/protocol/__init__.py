"""The rules: what the ledger accepts, and why.

Pure functions of the ledger and one ordered transaction: no clock, no socket, no disk, no randomness (protocol.md).
"""
