"""What a user may choose about a training, validated once; and the stages that follow from it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal, get_args

from tuwen import InvalidArgumentError

__all__ = ["OptimizerName", "Recipe", "Stage", "TrainingOptions", "TrainingPrecision"]

OptimizerName = Literal["adamw", "muon"]
Recipe = Literal["photographs", "artwork"]
TrainingPrecision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Stage:
    """One pass of the learning rate from its warm-up to nearly zero.

    Attributes:
        name: ``start``, ``frozen`` or ``whole``.
        epochs: over the pictures; need not be whole.
        learning_rate: at the end of the warm-up.
        frozen_images: the image tower stays as it is ("locked-image tuning", Zhai et al. 2022).
        proxies: groups of pictures have vectors of their own, which both towers are drawn to.
        contrastive: pictures and texts of a batch are compared.
        kept_patches: the share of an image's patches that is looked at.
    """

    name: str
    epochs: float
    learning_rate: float
    frozen_images: bool = False
    proxies: bool = False
    contrastive: bool = True
    kept_patches: float = 1.0


@dataclass(frozen=True)
class TrainingOptions:
    """The choices of one training.

    The two stages are those of Chinese-CLIP (Yang et al. 2022, section 3.2): first the text tower alone learns to
    speak to the frozen image tower, then both learn. A training from scratch has no image tower worth freezing:
    ``start`` makes one before.

    Attributes:
        recipe: how pictures and texts are varied: ``photographs`` a little, as in cn_clip; ``artwork`` a lot, and with
            texts that are names and keywords.
        start_epochs: of the stage that makes towers from random weights; without a checkpoint alone.
        frozen_epochs: of the first stage.
        epochs: of the second stage.
        start_learning_rate, frozen_learning_rate, learning_rate: of each stage.
        kept_patches: the share of an image's patches that is looked at where the image tower learns (FLIP, Li et al.
            2023): faster, and no two looks at a picture are the same. Whoever evaluates looks at all.
        batch_size: pictures, with a text each, that one step compares.
        accumulate: in how many parts a step goes through the towers; the step is the same, its memory less.
        optimizer: ``adamw`` as in cn_clip; ``muon`` learns in fewer steps from random weights.
        warmup_steps: at the beginning of every stage.
        weight_decay: of matrices; biases, norms and the logit scale have none.
        average: how long the memory of the weights' moving average is, which is what is evaluated and saved; 0: off.
        context_length: tokens of a text.
        precision: of the arithmetic; weights and their updates are float32. ``auto``: bf16 where it is native.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        evaluate_every: epochs between two looks at the validation split, and at least one at a stage's end.
        patience: looks without a better recall that end the second stage early; 0: never.
        cache_mib: memory for decoded pictures; a dataset that needs more is decoded as it goes.
        workers: threads that decode.
        seed: equal seeds give the same batches.
    """

    recipe: Recipe = "photographs"
    start_epochs: float = 32
    frozen_epochs: float = 1
    epochs: float = 3
    start_learning_rate: float = 4e-4
    frozen_learning_rate: float = 1e-4
    learning_rate: float = 2e-5
    kept_patches: float = 1.0
    batch_size: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    warmup_steps: int = 100
    weight_decay: float = 0.1
    average: float = 0.999
    context_length: int = 52
    precision: TrainingPrecision = "auto"
    device: str = "auto"
    evaluate_every: float = 1
    patience: int = 5
    cache_mib: int = 2048
    workers: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("recipe", Recipe), ("precision", TrainingPrecision), ("optimizer", OptimizerName)):
            known = get_args(kind)
            if getattr(self, name) not in known:
                raise InvalidArgumentError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("start_learning_rate", "frozen_learning_rate", "learning_rate", "evaluate_every"):
            if not 0 < getattr(self, name) < inf:
                raise InvalidArgumentError(f"{name} must be more than 0 and finite, not {getattr(self, name)}")
        for name in (
            "start_epochs",
            "frozen_epochs",
            "epochs",
            "weight_decay",
            "warmup_steps",
            "patience",
            "cache_mib",
        ):
            if not 0 <= getattr(self, name) < inf:
                raise InvalidArgumentError(f"{name} must be finite and not negative, but is {getattr(self, name)}")
        if self.batch_size < 2:
            raise InvalidArgumentError("a batch of one picture has nothing to tell it from: 2 at least")
        if not 1 <= self.accumulate <= self.batch_size:
            raise InvalidArgumentError(f"accumulate must be from 1 to the batch size, not {self.accumulate}")
        if not 0 < self.kept_patches <= 1:
            raise InvalidArgumentError(f"kept_patches is a share, above 0 and up to 1; not {self.kept_patches}")
        if not 0 <= self.average < 1:
            raise InvalidArgumentError(f"average must be from 0 up to, but not, 1; not {self.average}")
        if self.context_length < 3 or self.workers < 1:
            raise InvalidArgumentError("context_length must be 3 at least, workers 1")

    def stages(self, *, from_scratch: bool) -> tuple[Stage, ...]:
        """What is trained, one after the other."""
        start = Stage(
            "start",
            self.start_epochs,
            self.start_learning_rate,
            proxies=True,
            contrastive=False,
            kept_patches=self.kept_patches,
        )
        frozen = Stage(
            "frozen", self.frozen_epochs, self.frozen_learning_rate, frozen_images=True, proxies=from_scratch
        )
        whole = Stage("whole", self.epochs, self.learning_rate, proxies=from_scratch, kept_patches=self.kept_patches)
        stages = (start, frozen, whole) if from_scratch else (frozen, whole)
        return tuple(stage for stage in stages if stage.epochs > 0)
