"""PoT Lab: order a training from a notebook, pay whoever returns the best model.

    import pot_lab
    lab = pot_lab.connect()
    order = lab.order(model=net, train=(x, y), test=(xt, yt), reward=25, train_for="10min")

Everything public is named here and loads when it is first used, so that importing this takes no time and no torch.
Every error is here too, e.g. `except pot_lab.StoreFull`; all of them are a `pot_lab.PotLabError`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pot_lab.errors import PotLabError
    from pot_lab.jobs.progress import Progress
    from pot_lab.jobs.workspace import ScoringTask, TrainingTask
    from pot_lab.notebook.check import CheckReport, check
    from pot_lab.notebook.lab import Lab, connect
    from pot_lab.notebook.order import Order
    from pot_lab.scoring import Score, export_model, pack_dataset, score, score_example, score_functions
    from pot_lab.testnet.testnet import Testnet
    from pot_lab.training import Trainer, TrainerSettings

if not __debug__:  # an ImportError, not an exit: a Jupyter server that loads this as an extension goes on without it
    raise ImportError("pot_lab does not run under python -O or PYTHONOPTIMIZE: start Python without them")

__version__ = "0.2.0"

_HOMES = {
    "connect": "pot_lab.notebook.lab",
    "Lab": "pot_lab.notebook.lab",
    "check": "pot_lab.notebook.check",
    "CheckReport": "pot_lab.notebook.check",
    "Order": "pot_lab.notebook.order",
    "Testnet": "pot_lab.testnet.testnet",
    "PotLabError": "pot_lab.errors",
    "Score": "pot_lab.scoring",
    "score": "pot_lab.scoring",
    "score_example": "pot_lab.scoring",
    "score_functions": "pot_lab.scoring",
    "export_model": "pot_lab.scoring",
    "pack_dataset": "pot_lab.scoring",
    "Trainer": "pot_lab.training",
    "TrainerSettings": "pot_lab.training",
    "TrainingTask": "pot_lab.jobs.workspace",
    "ScoringTask": "pot_lab.jobs.workspace",
    "Progress": "pot_lab.jobs.progress",
}

_ERRORS: dict[str, tuple[str, ...]] = {
    "pot_lab.agreement.evidence": ("NoEquivocation",),
    "pot_lab.agreement.quorum": ("BadReplicaCount",),
    "pot_lab.bench.network": ("BadSetting", "NetworkFailed"),
    "pot_lab.bench.records": ("UnknownQuestion",),
    "pot_lab.chain.deploy": ("BadGenesis",),
    "pot_lab.chain.errors": (
        "AccountBusy",
        "BadArtifact",
        "BadOwnerAct",
        "ChainBusy",
        "ChainError",
        "ChainRefused",
        "ChainReverted",
        "ChainUnreachable",
        "DamagedJournal",
        "DeepReorganisation",
        "EvmRefused",
        "EvmReverted",
        "FeeAboveCap",
        "InsufficientBalance",
        "NotConfirmed",
        "NotEnoughSignatures",
        "TransactionUnconfirmed",
        "WrongSignature",
    ),
    "pot_lab.consensus.batching": ("QueueFull",),
    "pot_lab.consensus.parameters": ("BadParameters",),
    "pot_lab.consensus.proof": ("BadProof", "NoProof"),
    "pot_lab.consensus.replica_state": ("BadLog", "StateDiverged"),
    "pot_lab.consensus.view_change": ("BadViewChange",),
    "pot_lab.crypto.cipher": ("CannotDecrypt",),
    "pot_lab.crypto.identity": ("BadKey", "BadSignature"),
    "pot_lab.crypto.keystore": ("WrongPassword",),
    "pot_lab.crypto.merkle": ("BadTree",),
    "pot_lab.crypto.sealed_box": ("CannotOpen",),
    "pot_lab.crypto.shamir": ("BadShares",),
    "pot_lab.demo": ("DemoFailed",),
    "pot_lab.errors": ("Malformed", "Oversize", "PortTaken", "UnknownScoreFunction"),
    "pot_lab.files": ("CannotWrite", "FileLocked"),
    "pot_lab.home": ("NoHome",),
    "pot_lab.jobs.alerts": ("BadWebhook",),
    "pot_lab.jobs.errors": (
        "BadJobParameters",
        "JobDone",
        "JobExists",
        "JobRunning",
        "LoopRunning",
        "NotebookUnusable",
        "OrderUnusable",
        "StillRunning",
        "UnknownJob",
    ),
    "pot_lab.jobs.scorer": ("BadModel", "BadTestData"),
    "pot_lab.jobs.workspace": ("BadWorkspace",),
    "pot_lab.judging.helper.example": ("ProvesNothing",),
    "pot_lab.judging.helper.files": ("CopyDamaged",),
    "pot_lab.judging.helper.opening": ("BadOpening",),
    "pot_lab.network.client.ledger": ("NoIdentity",),
    "pot_lab.network.errors": (
        "BadConfig",
        "BadDataDir",
        "BadKeyFile",
        "CallTimeout",
        "ClientClosed",
        "DataDirLocked",
        "DiskFull",
        "LogCorrupt",
        "NoAgreement",
        "QueryFailed",
        "NoFreePorts",
        "RemoteError",
        "Unreachable",
        "WrongServerKey",
    ),
    "pot_lab.network.founding.card": ("BadCard",),
    "pot_lab.network.founding.terms": ("NotApproved",),
    "pot_lab.network.seat_changes": ("NoSeat",),
    "pot_lab.notebook.errors": (
        "AmbiguousOrder",
        "BadArgument",
        "BadQuantity",
        "NoMiners",
        "NoModel",
        "NoSuchOrder",
        "PaidBefore",
        "ScoreDiffers",
    ),
    "pot_lab.protocol.errors": (
        "AlreadyDone",
        "BadCommitment",
        "BadEpoch",
        "BadEvidence",
        "BadOrder",
        "BadProposal",
        "BadRotation",
        "BadSeat",
        "BadShare",
        "BadWindows",
        "ChangePending",
        "InsufficientStake",
        "NotAllowed",
        "NotAssigned",
        "OrderExists",
        "PoolFull",
        "Refused",
        "RewardTooSmall",
        "StaleNonce",
        "TooEarly",
        "TooLate",
        "TooManyOrders",
        "TooManyProposals",
        "UnknownClaim",
        "UnknownKind",
        "UnknownBlob",
        "UnknownDispute",
        "TooManyChallenges",
        "UnknownOrder",
        "UnknownVersion",
        "UnprocessableTransaction",
        "WrongNetwork",
    ),
    "pot_lab.protocol.parameters": ("BadParameter",),
    "pot_lab.protocol.settlement": ("BadLeaf", "NotEncodable"),
    "pot_lab.protocol.views": ("UnknownQuery",),
    "pot_lab.scoring.errors": (
        "BadDataset",
        "BadTranscript",
        "BadWeights",
        "BatchMixing",
        "CostLimit",
        "DtypeMismatch",
        "ExportFailed",
        "HostileGraph",
        "SelfTestFailed",
        "ShapeMismatch",
        "UnsupportedOperator",
        "WorkerFailed",
    ),
    "pot_lab.simulator.disks": ("Damaged", "Full"),
    "pot_lab.simulator.profiles": ("UnknownProfile",),
    "pot_lab.simulator.run": ("BadProcesses", "BadSeeds", "ProcessLost", "UnknownFault"),
    "pot_lab.store.errors": (
        "LinkDead",
        "MissingExtra",
        "NotExpected",
        "QuotaExceeded",
        "StoreBusy",
        "StoreFull",
        "TooBig",
        "TooSlow",
        "UnusableAddress",
        "WrongHash",
    ),
    "pot_lab.testnet.errors": ("NoTestnet", "TestnetError", "TestnetFailed", "TestnetRunning", "UnknownAccount"),
    "pot_lab.training.errors": ("BadCheckpoint", "BadSettings", "TrainingDiverged"),
}
"""Every other error, by the module that defines it. Not in `dir()`, where they would hide the rest."""

_ERROR_HOMES = {name: module for module, names in _ERRORS.items() for name in names}

__all__ = [
    "CheckReport",
    "Lab",
    "Order",
    "PotLabError",
    "Progress",
    "Score",
    "ScoringTask",
    "Testnet",
    "Trainer",
    "TrainerSettings",
    "TrainingTask",
    "__version__",
    "check",
    "connect",
    "export_model",
    "pack_dataset",
    "score",
    "score_example",
    "score_functions",
]


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext pot_lab`: the magics `%pot` and `%%order`, and errors as short cards."""
    importlib.import_module("pot_lab.notebook.magics").load(shell)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _ERROR_HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - _ERROR_HOMES.keys())
