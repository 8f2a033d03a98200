"""Augmentation of whole batches of pictures, as tensors. One core varies thousands of pictures per second.

``photographs`` follows cn_clip (a crop of at least 90 %, slight changes of colour). ``artwork`` also rotates pictures,
draws outlines and changes backgrounds, so that the model learns the things and not the makers' styles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tuwen_lab.options import Recipe

__all__ = ["augment", "on_white"]

_LUMINANCE = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class _Strength:
    """The strength of the augmentation. The values from `flip` to `backgrounds`, except `colour`, are probabilities."""

    turn: float  # degrees
    shear: float  # degrees
    zoom: tuple[float, float]  # of the part that is seen
    shift: float  # of the side
    flip: float
    colour: float
    grey: float
    outline: float
    blur: float
    noise: float
    erase: float
    backgrounds: float  # that are not white


_STRENGTHS: dict[Recipe, _Strength] = {
    "photographs": _Strength(0, 0, (0.95, 1.0), 0.03, 0.5, 0.15, 0.02, 0, 0, 0, 0, 0),
    "artwork": _Strength(15, 8, (0.8, 1.3), 0.08, 0.3, 0.4, 0.12, 0.25, 0.2, 0.15, 0.2, 0.25),
}


def on_white(pictures: Tensor) -> Tensor:
    """Return pictures, uint8 (n, 4, S, S), on a white background, as float32 (n, 3, S, S) from 0 to 1."""
    scaled = pictures.float() / 255
    return scaled[:, :3] * scaled[:, 3:] + (1 - scaled[:, 3:])


def augment(pictures: Tensor, recipe: Recipe, may_flip: Tensor, random: torch.Generator) -> Tensor:
    """Return randomly varied pictures.

    Args:
        pictures: the pictures, uint8 (n, 4, S, S).
        recipe: the strength of the variation.
        may_flip: for each picture, whether a mirror image has the same meaning, bool (n,).
        random: the random number generator.

    Returns:
        float32 (n, 3, S, S), from 0 to 1.
    """
    strength = _STRENGTHS[recipe]
    varied = pictures.float() / 255
    varied[:, :3] *= varied[:, 3:]  # colours times opacity, so that edges blend correctly
    varied = _moved(varied, strength, may_flip, random)
    opacity = varied[:, 3:]
    colours = varied[:, :3] / opacity.clamp(min=1 / 255)
    colours = _coloured(colours, strength, random)
    colours, opacity = _outlined(colours, opacity, _some(colours, strength.outline, random), random)
    behind = _backgrounds(colours, strength.backgrounds, random)
    result = (behind + (colours - behind) * opacity).clamp(0, 1)
    some = _some(result, strength.blur, random)
    result[some] = functional.avg_pool2d(result[some], 3, 1, 1)
    some = _some(result, strength.noise, random)
    noise = torch.randn(result[some].shape, generator=random) * _uniform(result[some], 0, 0.12, random)
    result[some] = (result[some] + noise).clamp(0, 1)
    some = _some(result, strength.erase, random)
    result[some] = _erased(result[some], random)
    return result


def _some(pictures: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Return the indices of a random share of the pictures."""
    return (torch.rand(len(pictures), generator=random) < share).nonzero().flatten()


def _uniform(like: Tensor, low: float, high: float, random: torch.Generator, channels: int = 1) -> Tensor:
    """Return a random number for each picture (and channel), in a shape that broadcasts to pictures."""
    return torch.rand(len(like), channels, 1, 1, generator=random) * (high - low) + low


def _moved(pictures: Tensor, strength: _Strength, may_flip: Tensor, random: torch.Generator) -> Tensor:
    """Rotate, shear, zoom, shift and flip pictures in one resampling."""
    count = len(pictures)

    def symmetric(bound: float) -> Tensor:
        return (torch.rand(count, generator=random) * 2 - 1) * bound

    angle, shear = symmetric(math.radians(strength.turn)), symmetric(math.radians(strength.shear)).tan()
    low, high = (math.log(bound) for bound in strength.zoom)
    width, height = (
        (torch.rand(2, count, generator=random) * 0.3 + torch.rand(count, generator=random) * 0.7) * (high - low) + low
    ).exp()
    width = torch.where(may_flip & (torch.rand(count, generator=random) < strength.flip), -width, width)
    cosine, sine = angle.cos(), angle.sin()
    shift = symmetric(2 * strength.shift), symmetric(2 * strength.shift)
    rows = [
        torch.stack([cosine * width, (shear * cosine - sine) * height, shift[0]], dim=1),
        torch.stack([sine * width, (shear * sine + cosine) * height, shift[1]], dim=1),
    ]
    grid = functional.affine_grid(torch.stack(rows, dim=1), list(pictures.shape), align_corners=False)
    padding = "zeros" if strength.backgrounds else "border"
    return functional.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)


def _coloured(colours: Tensor, strength: _Strength, random: torch.Generator) -> Tensor:
    """Change brightness, contrast, gains of the channels and saturation. Some pictures become grey."""
    change = strength.colour
    grey = (colours * torch.tensor(_LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = _uniform(colours, 1 - 1.5 * change, 1 + change, random)
    saturation = torch.where(_uniform(colours, 0, 1, random) < strength.grey, torch.zeros(()), saturation)
    colours = grey + (colours - grey) * saturation
    colours = colours * _uniform(colours, 1 - 0.4 * change, 1 + 0.4 * change, random, channels=3)
    contrast = _uniform(colours, 1 - change, 1 + change, random)
    brightness = _uniform(colours, -0.4 * change, 0.4 * change, random)
    return ((colours - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def _outlined(colours: Tensor, opacity: Tensor, some: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw dark lines around the shapes and colour edges of some pictures, in the style of many makers."""
    inside = opacity[some]
    grey = (colours[some] * inside).sum(1, keepdim=True)
    peaks, valleys = functional.max_pool2d(grey, 3, 1, 1), -functional.max_pool2d(-grey, 3, 1, 1)
    changes = ((peaks - valleys - 0.25) * 4).clamp(0, 1) * _uniform(grey, 0, 1, random)
    shape = functional.max_pool2d(inside, 3, 1, 1)
    ring = (shape + functional.max_pool2d(-inside, 3, 1, 1)).clamp(0, 1)
    line = torch.maximum(changes, ring)
    paler = colours[some].lerp(torch.ones(()), _uniform(grey, -0.5, 1, random).clamp(min=0))  # 0: lines alone
    colours, opacity = colours.clone(), opacity.clone()
    colours[some] = paler * (1 - line) + _uniform(grey, 0, 0.15, random) * line
    opacity[some] = shape
    return colours, opacity


def _backgrounds(colours: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Return backgrounds: mostly white, some black, of one colour, with a gradient, or with noise."""
    count, _, side, _ = colours.shape
    kind = torch.rand(count, generator=random) / share if share else torch.ones(count)
    result = torch.ones_like(colours)
    result[kind < 1] = 0
    first = _uniform(colours, 0, 1, random, channels=3)
    plain, shaded, cloudy = kind < 0.8, (kind < 0.5) & (kind >= 0.3), kind < 0.3
    result[plain] = first[plain].expand(-1, -1, side, side)
    ramp = torch.linspace(0, 1, side)
    across = torch.where(_uniform(colours[shaded], 0, 1, random) < 0.5, ramp, ramp.view(side, 1))
    second = _uniform(colours[shaded], 0, 1, random, channels=3)
    result[shaded] = first[shaded] * across + second * (1 - across)
    coarse = torch.rand(int(cloudy.sum()), 3, 8, 8, generator=random) - 0.5
    result[cloudy] += functional.interpolate(coarse, size=(side, side), mode="bilinear") * 0.6
    return result


def _erased(pictures: Tensor, random: torch.Generator) -> Tensor:
    """Cover a rectangle of each picture with one colour (random erasing, Zhong et al. 2020)."""
    side = pictures.shape[-1]
    places = torch.arange(side).view(1, 1, 1, side) / side
    left, top = (_uniform(pictures, 0, 0.8, random) for _ in range(2))
    width, height = (_uniform(pictures, 0.1, 0.4, random) for _ in range(2))
    inside = (places >= left) & (places < left + width)
    inside = inside & ((places.transpose(2, 3) >= top) & (places.transpose(2, 3) < top + height))
    return torch.where(inside, _uniform(pictures, 0, 1, random, channels=3), pictures)
