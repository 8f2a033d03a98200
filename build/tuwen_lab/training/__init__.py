"""Training of Chinese-CLIP, in its two stages and from scratch: `tuwen train`.

Data flows in one direction. `_pictures` and `_captions` of a split, varied by `_augmentation`, become `_batches`. A
`_step` runs a batch through the towers of `_model` and the `_loss`. `_trainer` runs the stages of the options,
evaluates on the `_validation` split, and saves the `_state`.
"""

from tuwen_lab.options import Recipe, Stage, TrainingOptions, TrainingPrecision
from tuwen_lab.training._state import Evaluation
from tuwen_lab.training._trainer import Observer, TrainingSummary, train

__all__ = [
    "Evaluation",
    "Observer",
    "Recipe",
    "Stage",
    "TrainingOptions",
    "TrainingPrecision",
    "TrainingSummary",
    "train",
]
