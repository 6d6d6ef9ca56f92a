"""PBFT as a function: `Replica.step(input) -> effects` around an `Application`. See docs/consensus.md."""

from pot_lab.consensus.application import Application, Batch, Execution, RequestId
from pot_lab.consensus.parameters import Parameters
from pot_lab.consensus.quorum import faulty, quorum, weak_quorum

__all__ = ["Application", "Batch", "Execution", "Parameters", "RequestId", "faulty", "quorum", "weak_quorum"]
