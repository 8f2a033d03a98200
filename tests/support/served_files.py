"""Embeddings that this process computes with the files of a built repository, as the server computes them."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.support.sources import files_hash
from tuwen_build.verification.template_modules import staged_module
from tuwen_repository.manifest import Manifest

__all__ = ["ServedFiles"]

_BATCH_SIZES = (1, 2, 3, 7)  # followed by a batch of the largest size
Vectors = NDArray[np.float32]


class ServedFiles:
    """The parts of a built repository that compute: ``pixels.py``, ``tokens.py`` and both files ``model.pt``.

    Args:
        repository: the folder of a repository that `build_repository` made.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._max_batch_size = Manifest.read(repository).max_batch_size

    def embed_images(self, images: Sequence[bytes]) -> Vectors:
        """Return the unit vectors of encoded images. The batches have several sizes, up to the maximum batch size."""
        return self._encoded("vision_encoder", _pixels(self._repository / "image_preprocessing" / "1", images))

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Return the unit vectors of texts. The batches have several sizes, up to the maximum batch size."""
        return self._encoded("text_encoder", *_tokens(self._repository / "text_tokenization" / "1", texts))

    def _encoded(self, model: str, *inputs: NDArray[np.generic]) -> Vectors:
        encoder = _loaded(self._repository / model / "1" / "model.pt")
        rows = [
            encoder(*(torch.from_numpy(array[start:stop]) for array in inputs)).numpy()
            for start, stop in _batches(len(inputs[0]), self._max_batch_size)
        ]
        return np.concatenate(rows)


def _loaded(file: Path) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch deprecates TorchScript, which Triton needs
        module = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(*inputs: Tensor) -> Tensor:
        # config.pbtxt sets DISABLE_OPTIMIZED_EXECUTION and INFERENCE_MODE
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return module(*inputs)  # type: ignore[no-any-return]

    return run


def _batches(count: int, largest: int) -> Iterator[tuple[int, int]]:
    sizes = [*(size for size in _BATCH_SIZES if size < largest), largest]
    start = number = 0
    while start < count:
        stop = min(start + sizes[number % len(sizes)], count)
        yield start, stop
        start, number = stop, number + 1


# Pixels and tokens by the hashes of the preprocessing files and of the items. Many repositories share these files.
_prepared: dict[tuple[str, str], tuple[NDArray[np.generic], ...]] = {}


def _pixels(folder: Path, images: Sequence[bytes]) -> NDArray[np.generic]:
    def prepare() -> tuple[NDArray[np.generic], ...]:
        with staged_module(folder, "pixels") as module, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd files here, as it does in the server
            preprocessor = module.load_preprocessor(folder, module.ImageLimits())
            return (np.stack([preprocessor.pixel_values(image) for image in images]),)

    return _once(folder, [hashlib.sha256(image).hexdigest() for image in images], prepare)[0]


def _tokens(folder: Path, texts: Sequence[str]) -> tuple[NDArray[np.generic], ...]:
    def prepare() -> tuple[NDArray[np.generic], ...]:
        with staged_module(folder, "tokens") as module:
            encoded = module.load_tokenizer(folder).encode(list(texts))
            return encoded.input_ids, encoded.attention_mask

    return _once(folder, texts, prepare)


def _once(
    folder: Path, items: Sequence[str], prepare: Callable[[], tuple[NDArray[np.generic], ...]]
) -> tuple[NDArray[np.generic], ...]:
    files = files_hash((file for file in folder.iterdir() if file.is_file()), folder)
    key = (files, hashlib.sha256(repr(list(items)).encode()).hexdigest())
    if key not in _prepared:
        _prepared[key] = prepare()
    return _prepared[key]
