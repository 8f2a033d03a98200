"""One training step, computed in several parts to save memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise

import torch
from torch import Tensor

from tuwen_lab.options import Stage
from tuwen_lab.training._batches import Batch
from tuwen_lab.training._loss import Proxies, contrastive_loss
from tuwen_lab.training._model import TwoTowers

__all__ = ["Stepper"]


class Stepper:
    """The computation of the gradients of a batch.

    A batch in parts is embedded twice (GradCache, Gao et al. 2021). The first time, the whole batch is embedded without
    gradients, so that every part can be compared with all other parts. The second time, each part is embedded with
    gradients. The gradients equal the gradients of the whole batch in one part.
    """

    def __init__(
        self,
        towers: TwoTowers,
        proxies: Proxies | None,
        normalise: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[object]],
        parts: int,
    ) -> None:
        self._towers, self._proxies, self._normalise = towers, proxies, normalise
        self._autocast, self._parts = autocast, parts

    def backward(self, batch: Batch, stage: Stage, scaled: Callable[[Tensor], Tensor] = lambda loss: loss) -> float:
        """Compute the loss of a batch, and the gradients of the scaled loss.

        Args:
            batch: the pictures and captions.
            stage: the current stage of the training.
            scaled: a function from a loss to the scaled loss. Default: the loss is not scaled.

        Returns:
            The loss.
        """
        count = len(batch.groups)
        parts = min(self._parts, count)  # a small dataset may have fewer pictures than parts
        if parts == 1:
            images, texts = self._embed(batch, stage)
            loss = self._loss(batch, stage, images, texts)
            scaled(loss).backward()  # type: ignore[no-untyped-call]
            return float(loss.detach())
        bounds = [count * part // parts for part in range(parts + 1)]
        slices = [slice(first, last) for first, last in pairwise(bounds)]
        states, found = [], []
        with torch.no_grad():
            for rows in slices:
                states.append(_random_state(batch))  # the second time the same patches, and the same dropout
                found.append(self._embed(batch.part(rows), stage))
        images, texts = (torch.cat(kind).requires_grad_() for kind in zip(*found, strict=True))
        loss = self._loss(batch, stage, images, texts)
        scaled(loss).backward()  # type: ignore[no-untyped-call]
        after = _random_state(batch)
        for rows, state in zip(slices, states, strict=True):
            _set_random_state(state)
            outputs = self._embed(batch.part(rows), stage)
            pairs = [
                (output, whole.grad[rows])
                for output, whole in zip(outputs, (images, texts), strict=True)
                if output.requires_grad and whole.grad is not None
            ]
            torch.autograd.backward([output for output, _ in pairs], [gradient for _, gradient in pairs])
        _set_random_state(after)
        return float(loss.detach())

    def _embed(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
        with self._autocast():
            pixels = self._normalise(batch.pixels)
            if stage.frozen_images:
                with torch.no_grad():
                    images = self._towers.images(pixels)
            else:
                images = self._towers.images(pixels, stage.kept_patches)
            return images, self._towers.texts(batch.input_ids, batch.attention_mask)

    def _loss(self, batch: Batch, stage: Stage, images: Tensor, texts: Tensor) -> Tensor:
        losses = []
        if stage.contrastive:
            losses.append(contrastive_loss(images, texts, self._towers.clip.logit_scale.exp(), batch.fits))
        if stage.proxies and self._proxies is not None:
            losses += [self._proxies(images, batch.groups), 0.5 * self._proxies(texts, batch.caption_groups)]
        return torch.stack(losses).sum()


def _random_state(batch: Batch) -> tuple[Tensor, Tensor | None]:
    device = batch.pixels.device
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1])
