"""PBFT as a function: `Replica.step(input) -> effects` around an `Application`. See docs/consensus.md."""

from pot_lab.agreement.application import Application, Batch, Execution, RequestId
from pot_lab.agreement.quorum import faulty, quorum, weak_quorum
from pot_lab.consensus.parameters import Parameters

__all__ = ["Application", "Batch", "Execution", "Parameters", "RequestId", "faulty", "quorum", "weak_quorum"]
