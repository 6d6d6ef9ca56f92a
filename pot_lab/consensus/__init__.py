"""PBFT as a function: `Replica.step(input) -> effects` around an `Application`. See consensus.md."""

from pot_lab.agreement.application import Application, Batch, Execution, RequestId
from pot_lab.agreement.quorum import faulty, quorum, weak_quorum
from pot_lab.consensus.parameters import ConsensusParameters

__all__ = ["Application", "Batch", "ConsensusParameters", "Execution", "RequestId", "faulty", "quorum", "weak_quorum"]
