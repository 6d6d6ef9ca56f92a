"""Byzantine aggregators: each behaviour is one way to break the protocol with a real key and a real channel.

What the correct replicas must do about each is the matter of `checkers`: stay right, and, once the others are up and
connected, go on.
"""

from pot_lab.simulator.byzantine.behaviour import Behaviour, Several
from pot_lab.simulator.byzantine.forgery import BadTimes, Forge
from pot_lab.simulator.byzantine.traffic import Censor, Flood, Replay, Silent, Withhold
from pot_lab.simulator.byzantine.transitions import BadCheckpoints, BadViews
from pot_lab.simulator.byzantine.votes import Equivocate, LieAboutState, OldKey, Twins, TwoViews

__all__ = [
    "BadCheckpoints",
    "BadTimes",
    "BadViews",
    "Behaviour",
    "Censor",
    "Equivocate",
    "Flood",
    "Forge",
    "KINDS",
    "LieAboutState",
    "OldKey",
    "Replay",
    "Several",
    "Silent",
    "Twins",
    "TwoViews",
    "Withhold",
]

KINDS: tuple[type[Behaviour], ...] = (
    Equivocate,
    Twins,
    Withhold,
    Silent,
    LieAboutState,
    Replay,
    Forge,
    Censor,
    BadTimes,
    TwoViews,
    Flood,
    BadViews,
    BadCheckpoints,
    OldKey,
)
"""Every Byzantine behaviour."""
