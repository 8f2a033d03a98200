"""The options of a training, and its stages. Light to import: the command line reads these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tuwen import InvalidArgumentError
from tuwen_options import Option, check_values, documented

__all__ = ["OptimizerName", "Recipe", "Stage", "TrainingOptions", "TrainingPrecision"]

OptimizerName = Literal["adamw", "muon"]
Recipe = Literal["photographs", "artwork"]
TrainingPrecision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class Stage:
    """A stage of a training. The learning rate rises during the warm-up, and then falls to nearly zero.

    Attributes:
        name: the name of the stage: ``start``, ``frozen`` or ``whole``.
        epochs: the number of epochs over the pictures, which may be fractional.
        learning_rate: the learning rate at the end of the warm-up.
        frozen_images: whether the image tower is frozen ("locked-image tuning", Zhai et al. 2022).
        proxies: whether the loss compares both towers' vectors with a learned vector for each group of pictures.
        contrastive: whether the loss compares the pictures and texts of a batch.
        kept_patches: the share of an image's patches that the image tower sees.
    """

    name: str
    epochs: float
    learning_rate: float
    frozen_images: bool = False
    proxies: bool = False
    contrastive: bool = True
    kept_patches: float = 1.0


@documented
@dataclass(frozen=True)
class TrainingOptions:
    """The options of one training.

    The two stages are those of Chinese-CLIP (Yang et al. 2022, section 3.2). First the text tower learns to match the
    frozen image tower, then both learn. A training from random weights begins with the stage ``start``, which trains
    both towers until the image tower can be frozen.
    """

    recipe: Annotated[
        Recipe,
        Option(
            "Augmentation of pictures and texts. `photographs`: weak, as in cn_clip. `artwork`: strong, for texts "
            "that are names and keywords."
        ),
    ] = "photographs"
    start_epochs: Annotated[
        float,
        Option("Number of epochs of the stage that trains random weights. Not used with a checkpoint.", min=0),
    ] = 32
    frozen_epochs: Annotated[
        float, Option("Number of epochs of the first stage, with the image tower frozen.", min=0)
    ] = 1
    epochs: Annotated[float, Option("Number of epochs of the second stage, in which both towers learn.", min=0)] = 3
    start_learning_rate: Annotated[float, Option("Learning rate of the stage that trains random weights.", above=0)] = (
        4e-4
    )
    frozen_learning_rate: Annotated[float, Option("Learning rate of the first stage.", above=0)] = 1e-4
    learning_rate: Annotated[float, Option("Learning rate of the second stage.", above=0)] = 2e-5
    # FLIP (Li et al. 2023): faster, and each view of a picture differs. The evaluation uses all patches.
    kept_patches: Annotated[
        float,
        Option("Share of an image's patches that the image tower sees in training. 1: all patches.", above=0, max=1),
    ] = 1.0
    batch_size: Annotated[int, Option("Number of pictures in a step, with one text for each picture.", min=2)] = 128
    accumulate: Annotated[
        int,
        Option(
            "Number of parts into which each batch is split for the towers. More parts need less memory and give the "
            "same gradients.",
            min=1,
        ),
    ] = 1
    optimizer: Annotated[
        OptimizerName, Option("`adamw`: the optimizer of cn_clip. `muon`: needs fewer steps from random weights.")
    ] = "adamw"
    warmup_steps: Annotated[int, Option("Number of warm-up steps at the beginning of every stage.", min=0)] = 100
    weight_decay: Annotated[
        float, Option("Weight decay of matrices. Biases, norms and the logit scale are not decayed.", min=0)
    ] = 0.1
    average: Annotated[
        float,
        Option(
            "Decay of the exponential moving average of the weights (EMA), which is evaluated and saved; 0 turns it "
            "off.",
            min=0,
            below=1,
        ),
    ] = 0.999
    context_length: Annotated[int, Option("Maximum number of tokens per text.", min=3)] = 52
    precision: Annotated[
        TrainingPrecision,
        Option(
            "Precision of the arithmetic; weights and their updates are float32. `auto`: bf16 if the device computes "
            "bf16 natively, else fp32."
        ),
    ] = "auto"
    device: Annotated[
        str, Option("Device of the training: `auto`, `cpu`, `cuda` or `cuda:1`. `auto`: a GPU if there is one.")
    ] = "auto"
    evaluate_every: Annotated[
        float,
        Option(
            "Number of epochs between two evaluations on the validation split. Every stage ends with an evaluation.",
            above=0,
        ),
    ] = 1
    patience: Annotated[
        int, Option("End the second stage after this many evaluations without a better recall. 0: never.", min=0)
    ] = 5
    cache_mib: Annotated[
        int, Option("Memory in MiB for decoded pictures. Larger data sets are decoded again in every epoch.", min=0)
    ] = 2048
    workers: Annotated[int, Option("Number of threads that decode images.", min=1)] = 4
    seed: Annotated[int, Option("Seed of the random numbers. Equal seeds give the same batches.")] = 0

    def __post_init__(self) -> None:
        check_values(self)
        if self.accumulate > self.batch_size:
            raise InvalidArgumentError(
                f"accumulate: expected at most the batch size of {self.batch_size}, got {self.accumulate}"
            )

    def stages(self, *, from_scratch: bool) -> tuple[Stage, ...]:
        """The stages of the training in their order."""
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
