"""Training model graphs: the default trainer, its devices and its checkpoints. Independent of the network."""

from pot_lab.training.devices import Device, pick_device
from pot_lab.training.errors import BadCheckpoint, BadSettings, TrainingDiverged
from pot_lab.training.records import Trained, TrainingProgress
from pot_lab.training.settings import TrainerSettings
from pot_lab.training.trainer import Trainer

__all__ = [
    "BadCheckpoint",
    "BadSettings",
    "Device",
    "TrainingProgress",
    "Trained",
    "Trainer",
    "TrainerSettings",
    "TrainingDiverged",
    "pick_device",
]
