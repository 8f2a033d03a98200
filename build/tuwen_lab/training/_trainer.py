"""Running the stages of a training, from the starting checkpoint to the finished one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from tuwen import InvalidArgumentError
from tuwen_build.checkpoints import ChineseClip, reference_tokenizer
from tuwen_build.errors import OutputExistsError
from tuwen_build.outputs import OutputFolder
from tuwen_files.disk_space import check_space
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.options import Stage, TrainingOptions
from tuwen_lab.training._arithmetic import Arithmetic, choose_arithmetic
from tuwen_lab.training._batches import Batches
from tuwen_lab.training._captions import Captions
from tuwen_lab.training._loss import Proxies, clamp_logit_scale
from tuwen_lab.training._model import TwoTowers
from tuwen_lab.training._optimizer import Optimizer, averaged, fitting_warmup, learning_rate_at
from tuwen_lab.training._pictures import Pictures
from tuwen_lab.training._plots import plot_history
from tuwen_lab.training._start import copy_descriptions, open_start, write_new_checkpoint
from tuwen_lab.training._state import (
    Evaluation,
    Progress,
    load_state,
    save_state,
)
from tuwen_lab.training._step import Stepper
from tuwen_lab.training._validation import Validation

__all__ = ["Observer", "TrainingSummary", "train"]

REPORT = "training.json"  # also the file by which an earlier output of a training is recognised
_WORKPLACE = {"start", "state.pt", "state.part"}  # the files that a running training keeps beside its output
_COPIES = 5  # copies of the weights in a state: the towers, their average, the best average, and two of the optimizer
_FEW_STEPS = 200
_LOSS_EVERY = 20  # steps for each point of the loss curve
_EASING = 0.75  # the share of the stage that trains random weights


class Observer(Protocol):
    """The callbacks of a training."""

    def begin(self, stage: Stage, steps: int, done: int) -> None:
        """Handle the beginning of a stage, or its resumption after `done` of its steps."""

    def adjusted(self, reason: str) -> None:
        """Handle an option whose value was replaced because the data are few. `reason` is a sentence for the user."""

    def step(self, loss: float) -> None:
        """Handle the end of a step. Only this callback may raise KeyboardInterrupt, so that no step is repeated."""

    def evaluated(self, evaluation: Evaluation, best: bool) -> None:
        """Handle an evaluation on the validation split."""


@dataclass(frozen=True)
class TrainingSummary:
    """The result of a training.

    Attributes:
        output: the checkpoint's folder.
        steps: the number of steps.
        best: the evaluation whose weights were saved; None without a validation split.
        stopped_early: whether the training ended early because recall had stopped growing.
        parameters: the number of parameters of the model.
        skipped: a sentence for each skipped row of the data.
    """

    output: Path
    steps: int
    best: Evaluation | None
    stopped_early: bool
    parameters: int
    skipped: tuple[str, ...] = ()


def train(
    data: Path,
    output: Path,
    options: TrainingOptions,
    *,
    checkpoint: str | None = None,
    architecture: Path | None = None,
    resume: bool = False,
    force: bool = False,
    skip_bad_rows: bool = False,
    observer: Observer,
) -> TrainingSummary:
    """Train on ``train_imgs.tsv`` and ``train_texts.jsonl`` of a folder, and evaluate on ``valid_...`` if it exists.

    During the training, ``{output}.training`` holds the state from which it can resume.

    Args:
        data: the folder of the data.
        output: the folder for the trained checkpoint in the layout of Hugging Face, ``training.json`` and
            ``training.png``.
        options: the options of the training.
        checkpoint: the Chinese-CLIP to start from, in the layout of Hugging Face. Default: random weights.
        architecture: a ``config.json`` for random weights. Default: the config of the demo checkpoint.
        resume: whether to resume an interrupted training, which needs the same settings.
        force: whether an earlier output may be replaced.
        skip_bad_rows: whether malformed rows and pictures without a text are skipped.
        observer: the callbacks of the training.

    Raises:
        InvalidArgumentError: a row is malformed, or the settings contradict each other.
        CheckpointError: training cannot start from the checkpoint.
        OutputExistsError: the output, or the state of an interrupted training, exists already.
        DiskFullError: the disk has too little free space for the state and the output.
        TrainingStateError: the state cannot be written any more. The earlier state is kept.
    """
    if checkpoint is not None and architecture is not None:
        raise InvalidArgumentError(
            "expected either a checkpoint or an architecture, got both: a checkpoint has its own architecture"
        )
    split = _split(data, "train", skip_bad_rows)
    result = OutputFolder(output, REPORT, force)
    result.check()  # checked before hours of work, and again after them
    workplace = output.with_name(output.name + ".training")
    state = workplace / "state.pt"
    if resume and not state.is_file():
        raise InvalidArgumentError(f"nothing to resume: {state} is missing")
    if state.is_file() and not (resume or force):
        raise OutputExistsError(
            f"{workplace} holds an interrupted training: --resume continues it, --force starts again"
        )
    if not resume:
        _clear(workplace)
    workplace.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.callback(_clear_if_useless, workplace, state)
        if checkpoint is None and not resume:
            write_new_checkpoint(workplace / "start", split, architecture, seed=options.seed)
        path, start = open_start(checkpoint or str(workplace / "start"))
        check_space(workplace, _peak_bytes(start, saved=state.is_file()), "the training")
        valid = (data / "valid_texts.jsonl").is_file()
        splits = [split, *([_split(data, "valid", skip_bad_rows)] if valid else [])]
        run = _Run(splits, start, options, from_scratch=checkpoint is None, stack=stack)
        if resume:
            run.restore(load_state(state, run.settings))
        for reason in run.adjustments():
            observer.adjusted(reason)
        run.run(state, observer)
        with result.staged() as finished:
            summary = run.write(output, finished, path)
    shutil.rmtree(workplace)
    return summary


def _peak_bytes(start: ChineseClip, *, saved: bool) -> int:
    """Return the free space in bytes that a training needs, for its state and its output.

    While the state is replaced, the disk holds the old and the new state.

    Args:
        saved: whether the disk holds a state of this training already.
    """
    weights: int = sum(parameter.numel() for parameter in start.model.parameters())
    state = 4 * weights * _COPIES
    return (1 if saved else 2) * state + 2 * weights


def _clear_if_useless(workplace: Path, state: Path) -> None:
    """Remove the folder of a training that ended before it saved a state."""
    if not state.is_file():
        shutil.rmtree(workplace, ignore_errors=True)


def _split(data: Path, name: str, skip_bad_rows: bool) -> RetrievalSplit:
    return RetrievalSplit(data, name, skip_bad_rows, skip_silent_images=skip_bad_rows)


def _clear(workplace: Path) -> None:
    """Remove the folder of an interrupted training. A folder with other files is not changed.

    Raises:
        OutputExistsError: the folder holds files that a training does not write.
    """
    foreign = {path.name for path in workplace.iterdir()} - _WORKPLACE if workplace.is_dir() else set()
    if foreign or (workplace.exists() and not workplace.is_dir()) or workplace.is_symlink():
        named = f" (it holds '{min(foreign)}')" if foreign else ""
        raise OutputExistsError(
            f"'{workplace}' is needed for the training's state, but is not an interrupted training{named}; "
            "it was not changed, choose another output"
        )
    shutil.rmtree(workplace, ignore_errors=True)


class _Run:
    """The changing state of a training, and its loop."""

    def __init__(
        self,
        splits: Sequence[RetrievalSplit],
        start: ChineseClip,
        options: TrainingOptions,
        *,
        from_scratch: bool,
        stack: ExitStack,
    ) -> None:
        torch.manual_seed(options.seed)
        self._options = options
        self._stages = options.stages(from_scratch=from_scratch)
        self._arithmetic: Arithmetic = choose_arithmetic(options.device, options.precision)
        self._device = self._arithmetic.device
        rules = start.preprocessing
        self._pixel_mean, self._pixel_std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) for values in (rules.mean, rules.std)
        )

        tokenizer = reference_tokenizer(start.tokenization)

        def tokenize(text: str) -> list[int]:
            return tokenizer(text, options.context_length)

        def pictures_of(split: RetrievalSplit) -> Pictures:
            return stack.enter_context(
                Pictures(split, rules.image_size, cache_mib=options.cache_mib, workers=options.workers)
            )

        split, *valid = splits
        pictures = pictures_of(split)
        captions = Captions(split, pictures.ids)
        self._batches = Batches(
            pictures,
            captions,
            tokenize,
            size=options.batch_size,
            recipe=options.recipe,
            seed=options.seed,
            easing=options.start_epochs * _EASING if from_scratch else 0,
        )
        self._validation = None
        if valid:
            self._validation = Validation(valid[0], pictures_of(valid[0]), tokenize)
        self._skipped = tuple(reason for one in splits for reason in one.skipped)
        start.model.set_attn_implementation(self._arithmetic.attention)
        self._towers = TwoTowers(start.model).to(self._device).train()
        self._mean_towers = averaged(self._towers, options.average)
        proxies = any(stage.proxies for stage in self._stages)
        dimension = start.model.config.projection_dim
        self._proxies = Proxies(captions.groups, dimension).to(self._device) if proxies else None
        parts = min(options.accumulate, self._batches.size)
        self._stepper = Stepper(self._towers, self._proxies, self._normalise, self._arithmetic.autocast, parts)
        self._scaler = torch.amp.GradScaler(enabled=self._arithmetic.precision == "fp16")
        self._progress = Progress()
        self._optimizer: Optimizer | None = None
        self._best: dict[str, Tensor] | None = None
        self.settings: dict[str, Any] = {
            **asdict(options),
            "from_scratch": from_scratch,
            "pictures": len(pictures),
            "groups": captions.groups,
        }

    @property
    def _mean(self) -> TwoTowers:
        return cast("TwoTowers", self._mean_towers.module)

    def _normalise(self, pixels: Tensor) -> Tensor:
        return (pixels - self._pixel_mean) / self._pixel_std

    def _steps(self, stage: Stage) -> int:
        return max(1, round(stage.epochs * self._batches.an_epoch))

    def adjustments(self) -> list[str]:
        """Return a sentence for each option that does not fit the number of pictures."""
        options, batches = self._options, self._batches
        found = []
        if batches.size != options.batch_size:
            found.append(
                f"the batch size of {options.batch_size} exceeds the {self.settings['pictures']} pictures: using "
                f"{batches.size}"
            )
        for stage in self._stages:
            steps = self._steps(stage)
            warmup = fitting_warmup(options.warmup_steps, steps)
            if warmup != options.warmup_steps:
                found.append(
                    f"{options.warmup_steps} warm-up steps exceed half of the {steps} steps of the stage "
                    f"'{stage.name}': using {warmup}"
                )
        total = sum(map(self._steps, self._stages))
        if total < _FEW_STEPS:
            found.append(f"the training has only {total} steps: raise --epochs if recall still grows at its end")
        return found

    def run(self, state_file: Path, observer: Observer) -> None:
        """Run all remaining stages."""
        progress = self._progress
        while progress.stage < len(self._stages):
            stage = self._stages[progress.stage]
            steps = self._steps(stage)
            if progress.step == 0:
                progress.since_best = 0
                if (stage.name, progress.done) not in progress.history.stages:
                    progress.history.stages.append((stage.name, progress.done))
                self._begin(stage)
            observer.begin(stage, steps, progress.step)
            try:
                self._run_stage(stage, steps, state_file, observer)
            except KeyboardInterrupt:
                save_state(state_file, self._state())
                raise
            progress.done += progress.step
            progress.stage, progress.step = progress.stage + 1, 0
            self._optimizer = None

    def _begin(self, stage: Stage) -> None:
        self._towers.freeze_images(stage.frozen_images)
        modules = [self._towers, *([self._proxies] if self._proxies and stage.proxies else [])]
        self._optimizer = Optimizer(modules, self._options.optimizer, self._options.weight_decay)

    def _run_stage(self, stage: Stage, steps: int, state_file: Path, observer: Observer) -> None:
        progress, options = self._progress, self._options
        every = max(1, round(options.evaluate_every * self._batches.an_epoch))
        losses: list[float] = []
        for batch in self._batches.between(progress.done + progress.step, progress.done + steps):
            loss = self._learn(
                batch, stage, learning_rate_at(progress.step, steps, options.warmup_steps, stage.learning_rate)
            )
            progress.step += 1
            losses.append(loss)
            last = progress.step == steps
            if last or progress.step % _LOSS_EVERY == 0:
                progress.history.losses.append((progress.done + progress.step, sum(losses) / len(losses)))
                losses.clear()
            if last or progress.step % every == 0:
                self._evaluate(observer)
                save_state(state_file, self._state())
            observer.step(loss)
            final = progress.stage == len(self._stages) - 1
            if final and 0 < options.patience <= progress.since_best:
                return

    def _learn(self, batch: Any, stage: Stage, learning_rate: float) -> float:
        assert self._optimizer is not None  # noqa: S101 - for the type checker
        self._optimizer.zero_grad()
        loss = self._stepper.backward(batch.to(self._device), stage, self._scaler.scale)
        self._optimizer.step(learning_rate, self._scaler)
        clamp_logit_scale(self._towers.clip.logit_scale)
        self._mean_towers.update_parameters(self._towers)
        return loss

    def _evaluate(self, observer: Observer) -> None:
        if self._validation is None:
            return
        report = self._validation.report(self._mean, self._normalise, self._device)
        evaluation = Evaluation(
            self._progress.done + self._progress.step,
            *[(found.r1, found.r5, found.r10) for found in (report.text_to_image, report.image_to_text)],
        )
        earlier = [look.mean for look in self._progress.history.evaluations]
        best = not earlier or evaluation.mean > max(earlier)
        self._progress.history.evaluations.append(evaluation)
        self._progress.since_best = 0 if best else self._progress.since_best + 1
        if best:
            self._best = {name: value.clone() for name, value in self._mean.state_dict().items()}
        observer.evaluated(evaluation, best)

    def _state(self) -> dict[str, Any]:
        optimizer = self._optimizer
        return {
            "settings": self.settings,
            "progress": asdict(self._progress),
            "towers": self._towers.state_dict(),
            "mean": self._mean_towers.state_dict(),
            "proxies": self._proxies and self._proxies.state_dict(),
            "optimizer": optimizer and optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "best": self._best,
            "random": torch.get_rng_state(),
            "random_of_gpu": torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a saved state."""
        self._progress = Progress.from_dict(state["progress"])
        self._towers.load_state_dict(state["towers"])
        self._mean_towers.load_state_dict(state["mean"])
        if self._proxies:
            self._proxies.load_state_dict(state["proxies"])
        self._scaler.load_state_dict(state["scaler"])
        self._best = state["best"]
        torch.set_rng_state(state["random"])
        of_gpu = state.get("random_of_gpu")  # states of earlier versions lack it
        if of_gpu is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(of_gpu, self._device)
        if self._progress.step:
            self._begin(self._stages[self._progress.stage])
            assert self._optimizer is not None  # noqa: S101 - for the type checker
            self._optimizer.load_state_dict(state["optimizer"])

    def write(self, output: Path, part: Path, start: Path) -> TrainingSummary:
        """Write the best weights as a checkpoint of Hugging Face, in half precision, into the empty folder `part`."""
        towers = self._mean
        if self._best is not None:
            towers.load_state_dict(self._best)
        cast("Any", towers.clip).half().save_pretrained(part)
        copy_descriptions(start, part)
        history = self._progress.history
        best = max(history.evaluations, key=lambda look: look.mean, default=None)
        done = self._progress.done
        summary = TrainingSummary(
            output,
            done,
            best,
            stopped_early=done < sum(self._steps(stage) for stage in self._stages),
            parameters=sum(parameter.numel() for parameter in towers.parameters()),
            skipped=self._skipped,
        )
        report = {
            "settings": {**self.settings, "device": str(self._device), "precision": self._arithmetic.precision},
            "torch": torch.__version__,
            "skipped_rows": len(self._skipped),
            "best": best and {**asdict(best), "mean": best.mean},
            "history": asdict(history),
        }
        (part / REPORT).write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        plot_history(history, part / "training.png")
        return summary
