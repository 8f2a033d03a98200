"""Comparing the files of a repository with the reference, from bytes and strings to vectors.

The files pixels.py, tokens.py and model.pt are loaded from the staged repository, as the server will load them.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tuwen_build.checkpoints import Checkpoint, Tokenization
from tuwen_build.errors import VerificationError
from tuwen_build.export.encoders import text_encoder, vision_encoder
from tuwen_build.options import BuildOptions, Precision
from tuwen_build.verification.reference import normalised, processor_probes, reference_pixels
from tuwen_build.verification.template_modules import staged_module
from tuwen_repository.deviation import Deviation
from tuwen_repository.int8_kernels import int8_products_are_exact
from tuwen_repository.samples import PHOTOGRAPHS, awkward_images, awkward_texts, known_vocabularies

__all__ = ["Bound", "bound", "verify_images", "verify_kernels", "verify_texts"]

FP32_MAX_ABS = 1e-5
_UNIT_ROUNDOFF = {"bf16": 2.0**-8, "fp16": 2.0**-11, "int8": 2.0**-7}
_BATCH_SIZES = (1, 2, 3, 7)
_FIXTURE_LENGTH = 510  # texts.json holds this number of ids for each text
_JPEG = b"\xff\xd8\xff"
_STRAIGHT_QUOTES = str.maketrans("“”", '""')


@dataclass(frozen=True)
class Bound:
    """The allowed difference between unit vectors and the reference: per component, or as Euclidean distance."""

    max_abs: float
    distance: float


def bound(precision: Precision, depth: int) -> Bound:
    """Return the allowed difference of a build with this precision.

    fp32: 1e-5 on every component, because only the order of additions differs.

    bf16 and fp16: a tower rounds its input, its projection and each of its 2 * depth residual branches. The relative
    error of one rounding is at most the unit roundoff u, which is 2^-8 for bf16 and 2^-11 for fp16.

    int8: the step of a row is 1/127 of the row's largest value. This value is about four times the root mean square.
    The root mean square of a rounding error is 0.29 steps, so u is about 2^-7.

    LayerNorm keeps the scale of the hidden state. So the errors add up like a random walk, to a distance of about
    u * sqrt(2 * depth + 2). The bound is four times this distance, for rare large errors and for errors that a softmax
    amplifies.
    """
    if precision == "fp32":
        return Bound(max_abs=FP32_MAX_ABS, distance=math.inf)
    distance = 4 * _UNIT_ROUNDOFF[precision] * math.sqrt(2 * depth + 2)
    return Bound(max_abs=distance, distance=distance)


def verify_kernels(options: BuildOptions) -> None:
    """Check that int8 kernels compute the largest possible products exactly.

    The samples of a build may lack such products.

    Raises:
        VerificationError: the kernels of this CPU saturate.
    """
    if options.precision == "int8" and not int8_products_are_exact():
        raise VerificationError(
            "torch's int8 kernel on this CPU saturates, so vectors would be wrong; use fp32 or bf16"
        )


def verify_images(staged: Path, checkpoint: Checkpoint, options: BuildOptions) -> Deviation:
    """Compare preprocessing and the vision encoder with the reference, on images of every awkward kind.

    If the rules that the build adds are left out, the pixels must equal those of the family's own rules bit for bit.
    The pixels must also equal those of the image processor that transformers makes from the checkpoint's files. If the
    build adds rules, the pixels must equal those of the family's rules on every image that the added rules do not
    change.

    Raises:
        VerificationError: preprocessing or the encoder differs from the reference. The message says where and by how
            much.
    """
    folder = staged / "image_preprocessing" / "1"
    with staged_module(folder, "pixels") as module:
        preprocessor = module.load_preprocessor(folder, module.ImageLimits())
        plain = module.Preprocessor(preprocessor.image_size, preprocessor.resize, limits=module.ImageLimits())
    rules, processor = checkpoint.preprocessing, checkpoint.reference.image_processor
    chosen = {name for name, default in vars(plain).items() if getattr(options, name, default) != default}
    served = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")  # Pillow warns about odd files, and these are odd on purpose
        for name, data in awkward_images().items():
            served[name] = preprocessor.pixel_values(data)
            expected = reference_pixels(data, rules)
            _check_pixels(name, plain.pixel_values(data), expected)
            if all(_LEAVES_AS_IT_IS.get(rule, _nothing)(name, data) for rule in chosen):
                _check_pixels(name, served[name], expected)
    _check_image_processor(plain, checkpoint)
    batch = torch.from_numpy(np.stack(list(served.values())))
    comparison = _Comparison("vision encoder", staged, checkpoint, options)
    for start, stop in _slices(len(batch), options.max_batch_size):
        pixels = batch[start:stop]
        comparison.add((pixels,), checkpoint.reference.embed_images(normalised(pixels, processor)))
    return comparison.judge()


def _nothing(_name: str, _data: bytes) -> bool:
    return False


# For each added rule, whether it leaves the pixels of an image as they are. Rules not listed change every image.
_LEAVES_AS_IT_IS: Mapping[str, Callable[[str, bytes], bool]] = {
    "image_rules": lambda name, _: name in PHOTOGRAPHS,
    "jpeg_decoding": lambda _, data: not data.startswith(_JPEG),
}


def verify_texts(staged: Path, checkpoint: Checkpoint, options: BuildOptions) -> Deviation:
    """Compare the tokenizer (id for id) and the text encoder with the reference, on awkward texts in mixed batches.

    Raises:
        VerificationError: the tokenizer or the encoder differs from the reference. The message says where and by how
            much.
    """
    folder = staged / "text_tokenization" / "1"
    with staged_module(folder, "tokens") as module:
        tokenizer = module.load_tokenizer(folder)
    _verify_tokens(tokenizer, checkpoint, options)
    comparison = _Comparison("text encoder", staged, checkpoint, options)
    tokens = tokenizer.encode([entry.text for entry in awkward_texts()])
    for length in (
        tokenizer.context_length,
        tokenizer.context_length // 2,
    ):  # the server's padding, and other padding that clients may send
        fitting = tokens.attention_mask.sum(axis=1) <= length
        ids, mask = (torch.from_numpy(rows[fitting, :length]) for rows in (tokens.input_ids, tokens.attention_mask))
        for start, stop in _slices(len(ids), options.max_batch_size):
            batch = (ids[start:stop], mask[start:stop])
            comparison.add(batch, checkpoint.reference.embed_texts(*batch))
    return comparison.judge()


def _verify_tokens(tokenizer: Any, checkpoint: Checkpoint, options: BuildOptions) -> None:
    """Compare token ids. `tokenizer` is the staged `TextTokenizer`, whose module mypy cannot see."""
    for text, owner, expected in _expected_tokens(tokenizer, checkpoint, options):
        tokens = tokenizer.encode([text])
        got = tokens.input_ids[0][tokens.attention_mask[0] == 1].tolist()
        if got != expected:
            raise VerificationError(
                f"the tokenizer differs from {owner} on {text[:40]!r}: {_first_difference(got, expected)}"
            )


def _expected_tokens(
    tokenizer: Any, checkpoint: Checkpoint, options: BuildOptions
) -> Iterator[tuple[str, str, list[int]]]:
    """Yield each text with the name of its reference tokenizer and the tokens that this tokenizer gives.

    The checkpoint's own tokenizer is the reference for texts on which all implementations agree. If the ids of the
    original code are known for this vocabulary, they are the reference for all texts.
    """
    rules = checkpoint.tokenization
    room = tokenizer.context_length - 2
    known = known_vocabularies().get(rules.kind)
    if known and (room > _FIXTURE_LENGTH or known.sha256 != _vocabulary_hash(rules)):
        known = None
    start, end = tokenizer.encode([""]).input_ids[0, :2].tolist()
    for entry in awkward_texts():
        text = entry.text.translate(_STRAIGHT_QUOTES) if options.text_rules == "evaluation" else entry.text
        if rules.kind in entry.everyday:
            expected = checkpoint.reference.tokenize(text, tokenizer.context_length)
            padding = tokenizer.context_length - len(expected) if options.text_rules == "unmasked" else 0
            yield entry.text, "the checkpoint's own", expected + [0] * padding
        if known and text == entry.text:
            yield text, f"{known.made_by}'s", [start, *entry.token_ids[rules.kind][:room], end]


def _vocabulary_hash(rules: Tokenization) -> str:
    """Return the hash of a vocabulary's canonical form, as in `KnownVocabulary.sha256`."""
    if rules.kind == "clip_bpe":
        vocabulary: dict[str, int] = json.loads(rules.assets["vocab.json"])
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    else:
        tokens = [line.strip() for line in rules.assets["vocab.txt"].decode().removesuffix("\n").split("\n")]
    return hashlib.sha256("".join(token + "\n" for token in tokens).encode()).hexdigest()


def _first_difference(got: list[int], expected: list[int]) -> str:
    for position, (ours, theirs) in enumerate(zip(got, expected, strict=False)):
        if ours != theirs:
            return f"token {position} is {ours}, the reference says {theirs}"
    return f"{len(got)} tokens, the reference says {len(expected)}"


class _Comparison:
    """The comparison of an exported encoder with the reference.

    The bound of a lower precision is wide enough to hide a wrong activation or a wrong mean. So the float32 module
    before the conversion is compared too, with the narrow bound of float32.
    """

    def __init__(
        self,
        what: Literal["vision encoder", "text encoder"],
        staged: Path,
        checkpoint: Checkpoint,
        options: BuildOptions,
    ) -> None:
        self._what = what
        self._exported = _load_encoder(staged / what.replace(" ", "_"))
        self._bound = bound(options.encoder_precision, checkpoint.depth)
        make = vision_encoder if what == "vision encoder" else text_encoder
        original = make(checkpoint, "fp32") if options.precision != "fp32" else None
        self._original = original and torch.inference_mode()(original)
        self._exported_pairs: list[tuple[Tensor, Tensor]] = []
        self._original_pairs: list[tuple[Tensor, Tensor]] = []

    def add(self, inputs: tuple[Tensor, ...], expected: Tensor) -> None:
        """Run a batch and compare the result. `expected` need not be normalised."""
        expected = torch.nn.functional.normalize(expected.double(), dim=-1)
        self._exported_pairs.append((self._exported(*inputs).double(), expected))
        if self._original is not None:
            self._original_pairs.append((self._original(*inputs).double(), expected))

    def judge(self) -> Deviation:
        """Return how far the exported encoder is from the reference."""
        if self._original_pairs:
            _judge(f"{self._what}'s float32 original", self._original_pairs, bound("fp32", 0))
        return _judge(f"exported {self._what}", self._exported_pairs, self._bound)


def _judge(what: str, pairs: list[tuple[Tensor, Tensor]], allowed: Bound) -> Deviation:
    got, expected = torch.cat([ours for ours, _ in pairs]), torch.cat([theirs for _, theirs in pairs])
    deviation = Deviation(
        max_abs=float((got - expected).abs().max()),
        distance=float((got - expected).norm(dim=-1).max()),
        min_cosine=float(torch.nn.functional.cosine_similarity(got, expected).min()),
        compared=len(got),
    )
    # written so that a NaN fails
    if not (deviation.max_abs <= allowed.max_abs and deviation.distance <= allowed.distance):
        raise VerificationError(
            f"the {what} differs from the reference: up to {deviation.max_abs:.2e} in a component "
            f"(allowed {allowed.max_abs:.0e}), distance {deviation.distance:.2e}, cosine {deviation.min_cosine:.6f}"
        )
    return deviation


def _check_pixels(name: str, pixels: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    difference = np.abs(pixels.astype(int) - expected.astype(int)).max()
    if difference:
        raise VerificationError(f"preprocessing differs from the reference on {name} by up to {difference} of 255")


def _check_image_processor(preprocessor: Any, checkpoint: Checkpoint) -> None:
    """Compare normalised pixels with the pixels of the checkpoint's own image processor.

    `preprocessor` is the staged `Preprocessor`, whose module mypy cannot see.
    """
    for name, data in processor_probes().items():
        pixels = torch.from_numpy(preprocessor.pixel_values(data))
        got = normalised(pixels[None], checkpoint.preprocessing)[0].numpy()
        with Image.open(io.BytesIO(data)) as image:
            expected = checkpoint.reference.image_processor.pixel_values(image)
        same_shape = got.shape == expected.shape
        difference = (np.abs(got - expected) / np.maximum(1, np.abs(expected))).max() if same_shape else math.inf
        if not difference <= FP32_MAX_ABS:  # written so that a NaN fails
            raise VerificationError(
                f"preprocessing differs from the checkpoint's own image processor on {name}: up to {difference:.2e} in "
                f"a normalised pixel value (allowed {FP32_MAX_ABS:.0e}), shape {got.shape}, expected {expected.shape}"
            )


def _slices(count: int, largest: int) -> list[tuple[int, int]]:
    """Yield slices that cover `count` items, with batches of every size in turn."""
    slices: list[tuple[int, int]] = []
    start = 0
    while start < count:
        size = min(_BATCH_SIZES[len(slices) % len(_BATCH_SIZES)], largest)
        slices.append((start, min(start + size, count)))
        start += size
    return slices


def _load_encoder(folder: Path) -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # see export/torchscript.py
        encoder = torch.jit.load(str(folder / "1" / "model.pt"), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(*inputs: Tensor) -> Tensor:
        # without optimized execution, as in the configs for Triton
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return encoder(*inputs)  # type: ignore[no-any-return]

    return run
