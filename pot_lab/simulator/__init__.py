"""The real replica and the real ledger under virtual time and every fault they claim to tolerate. See
simulator.md.
"""
