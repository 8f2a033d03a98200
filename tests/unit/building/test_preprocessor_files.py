"""The files of an image processor that transformers 4.20 to 5 write: each key is obeyed, or an error names it."""

from __future__ import annotations

import functools
import io
import json
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tuwen import pixels
from tuwen_build.checkpoints import Preprocessing, _chinese_clip, open_checkpoint
from tuwen_build.checkpoints._image_processor import saved_image_processor
from tuwen_build.checkpoints._preprocessor import MEAN, STD, read_preprocessing
from tuwen_build.errors import CheckpointError, VerificationError
from tuwen_build.repository import build_repository
from tuwen_build.verification.reference import normalised, processor_probes

Resize = Literal["squash", "crop"]
SIDE = 64
SQUARE = {"height": SIDE, "width": SIDE}
FAMILIES: dict[Resize, tuple[Any, dict[str, Any]]] = {
    "squash": (
        ChineseCLIPImageProcessorPil,
        {"image_processor_type": "ChineseCLIPImageProcessor", "size": SQUARE, "do_center_crop": False},
    ),
    "crop": (
        CLIPImageProcessorPil,
        {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": SIDE}, "do_center_crop": True},
    ),
}
COMMON: dict[str, Any] = {
    "crop_size": SQUARE,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(MEAN),
    "image_std": list(STD),
    "resample": 3,
    "rescale_factor": 1 / 255,
}
LEFT_OUT = object()
CHANGES: dict[str, list[Any]] = {
    "image_processor_type": ["SiglipImageProcessor", "ViTImageProcessor", "CLIPImageProcessorFast", LEFT_OUT, None],
    "feature_extractor_type": ["CLIPFeatureExtractor", "ChineseCLIPFeatureExtractor", "BeitFeatureExtractor"],
    "size": [
        SIDE,
        SQUARE,
        32,
        {"height": 32, "width": SIDE},
        {"height": SIDE, "width": 32},
        {"shortest_edge": SIDE},
        {"shortest_edge": SIDE, "longest_edge": None},
        {"shortest_edge": 72},
        {"shortest_edge": SIDE, "longest_edge": 80},
        {"longest_edge": SIDE},
        {"max_height": SIDE, "max_width": SIDE},
        [SIDE, SIDE],
        [SIDE, 32],
        "64",
        True,
        64.5,
        LEFT_OUT,
        None,
    ],
    "default_to_square": [True, False, None, "yes"],
    "crop_size": [SIDE, 32, {"height": SIDE, "width": 32}, {"shortest_edge": SIDE}, [SIDE, SIDE], LEFT_OUT, None],
    "do_center_crop": [True, False, None, LEFT_OUT, 1],
    "do_resize": [False, None, LEFT_OUT, "true"],
    "resample": [0, 1, 2, 3, 4, 5, None, LEFT_OUT, "bicubic"],
    "do_rescale": [False, None, LEFT_OUT, 0],
    "rescale_factor": [1 / 256, 1 / 127.5, 1.0, 0.00392156862745098, 0.0039215686, None, LEFT_OUT, "1/255"],
    "do_normalize": [False, None, LEFT_OUT, 1],
    "image_mean": [[0.5, 0.5, 0.5], 0.5, 0, [0.1, 0.2, 0.3], [0.5, 0.5], None, LEFT_OUT, "0.5", [0.5, None, 0.5]],
    "image_std": [[0.5, 0.25, 1], 0.5, [0.2, 0.2, 0], -1.0, 1, None, LEFT_OUT, [0.5] * 4, float("nan"), float("inf")],
    "do_convert_rgb": [False, None, LEFT_OUT],
    "do_pad": [True, False, None],
    "pad_size": [{"height": 80, "width": 80}, None],
    "use_square_size": [True, False],
    "data_format": ["channels_first", "channels_last", None],
    "do_flip_channel_order": [True, None],
    "do_thumbnail": [True],
    "auto_map": [{"AutoImageProcessor": "processing.Own"}],
    "offset": [1],
    "_valid_processor_keys": [["images", "do_resize"]],
    "disable_grouping": [None, True],
    "device": [None, "cuda"],
    "return_tensors": [None, "pt"],
    "input_data_format": [None],
    "processor_class": ["CLIPProcessor"],
}
CASES = [(resize, key, value) for resize in FAMILIES for key, values in CHANGES.items() for value in values]


probes = functools.cache(processor_probes)


def write(folder: Path, settings: dict[str, Any], file: str = "preprocessor_config.json") -> None:
    content = {"image_processor": settings} if file == "processor_config.json" else settings
    (folder / file).write_text(json.dumps(content))


def served_pixels(rules: Preprocessing, data: bytes) -> NDArray[np.float32]:
    preprocessor = pixels.Preprocessor(rules.image_size, rules.resize)
    values: NDArray[np.float32] = normalised(torch.from_numpy(preprocessor.pixel_values(data))[None], rules)[0].numpy()
    return values


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(("resize", "key", "value"), CASES, ids=lambda value: "left out" if value is LEFT_OUT else None)
def test_a_changed_key_gives_the_pixels_of_transformers_or_is_refused(
    tmp_path: Path, resize: Resize, key: str, value: Any
) -> None:
    processor_class, own = FAMILIES[resize]
    file = {"squash": "processor_config.json", "crop": "preprocessor_config.json"}[resize]
    settings = {**COMMON, **own, key: value}
    if value is LEFT_OUT:
        del settings[key]
    write(tmp_path, settings, file)
    try:
        rules = read_preprocessing(tmp_path, SIDE, resize)
    except CheckpointError as error:
        assert file in str(error)
        assert key in str(error) or (key == "default_to_square" and "size" in str(error))
        return
    data = next(iter(probes().values()))
    expected = processor_class.from_pretrained(tmp_path)(opened(data), return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(served_pixels(rules, data), expected, rtol=0, atol=1e-5)
    reference = saved_image_processor(tmp_path, SIDE, resize)
    np.testing.assert_array_equal(reference.pixel_values(opened(data)), expected)
    np.testing.assert_allclose((reference.mean, reference.std), (rules.mean, rules.std))


@pytest.mark.parametrize("resize", FAMILIES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_mean", [0.5, 0.5, 0.5]),
        ("image_mean", 0.5),
        ("image_std", [0.5, 0.25, 1]),
        ("do_normalize", False),
        ("do_pad", False),
        ("pad_size", {"height": 80, "width": 80}),
        ("_valid_processor_keys", ["images"]),
        ("do_thumbnail", None),
        ("image_processor_type", "CLIPImageProcessorFast"),
    ],
)
def test_supported_settings_of_the_image_processor_are_read(
    tmp_path: Path, resize: Resize, key: str, value: Any
) -> None:
    write(tmp_path, {**COMMON, **FAMILIES[resize][1], key: value})
    read_preprocessing(tmp_path, SIDE, resize)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            {
                "crop_size": SIDE,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.3, 0.2, 0.1],
                "resample": 3,
                "size": SIDE,
            },
            id="4.20",
        ),
        pytest.param(
            {
                **COMMON,
                "_valid_processor_keys": ["images", "do_resize", "size"],
                "image_processor_type": "CLIPImageProcessor",
                "size": {"shortest_edge": SIDE},
                "do_center_crop": True,
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.3, 0.2, 0.1],
            },
            id="4.40",
        ),
        pytest.param(
            {
                **COMMON,
                "data_format": "channels_first",
                "default_to_square": False,
                "device": None,
                "disable_grouping": None,
                "do_center_crop": True,
                "do_pad": None,
                "image_mean": [0.4, 0.5, 0.6],
                "image_processor_type": "CLIPImageProcessorFast",
                "image_std": [0.3, 0.2, 0.1],
                "input_data_format": None,
                "pad_size": None,
                "processor_class": "CLIPProcessor",
                "return_tensors": None,
                "size": {"shortest_edge": SIDE},
            },
            id="4.57",
        ),
    ],
)
def test_older_forms_of_the_file_are_read(tmp_path: Path, settings: dict[str, Any]) -> None:
    write(tmp_path, settings)
    (tmp_path / "processor_config.json").write_text('{"processor_class": "CLIPProcessor"}')  # the form of 4.40
    assert read_preprocessing(tmp_path, SIDE, "crop") == Preprocessing(SIDE, "crop", (0.4, 0.5, 0.6), (0.3, 0.2, 0.1))


def test_the_nested_processor_comes_first_as_in_transformers(tmp_path: Path) -> None:
    settings = {**COMMON, **FAMILIES["squash"][1]}
    write(tmp_path, {**settings, "image_mean": 0.1})
    nested = {
        "image_processor": {**settings, "image_mean": 0.2},
        "video_processor": {"size": 1},
        "processor_class": "X",
    }
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert read_preprocessing(tmp_path, SIDE, "squash").mean == (0.2, 0.2, 0.2)
    assert saved_image_processor(tmp_path, SIDE, "squash").mean == (0.2, 0.2, 0.2)


def test_a_nested_processor_that_is_not_an_object_is_refused(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text('{"image_processor": "ChineseCLIPImageProcessor"}')
    with pytest.raises(CheckpointError, match=r"processor_config\.json says image_processor .*; expected an object"):
        read_preprocessing(tmp_path, SIDE, "squash")


@pytest.mark.parametrize("resize", FAMILIES)
def test_a_folder_without_the_files_has_the_published_rules(tmp_path: Path, resize: Resize) -> None:
    rules, reference = read_preprocessing(tmp_path, SIDE, resize), saved_image_processor(tmp_path, SIDE, resize)
    assert (rules.mean, rules.std) == (MEAN, STD)
    for data in probes().values():
        np.testing.assert_allclose(served_pixels(rules, data), reference.pixel_values(opened(data)), rtol=0, atol=1e-5)


class TestBuild:
    @pytest.fixture
    def saved_by_transformers_5(self, checkpoint: Path, tmp_path: Path) -> Path:
        """Return a checkpoint in the form of transformers 5: all settings of images are in processor_config.json."""
        folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
        write(folder, {**COMMON, **FAMILIES["squash"][1], "image_mean": 0.5, "image_std": 0.5}, "processor_config.json")
        return folder

    def test_mean_and_deviation_of_the_checkpoint_are_used(self, saved_by_transformers_5: Path) -> None:
        assert open_checkpoint(str(saved_by_transformers_5)).preprocessing.mean == (0.5, 0.5, 0.5)

    def test_the_verification_notices_a_mean_that_was_misread(
        self, saved_by_transformers_5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def without_reading(_: Path, image_size: int, resize: Resize) -> Preprocessing:
            return Preprocessing(image_size, resize, MEAN, STD)

        monkeypatch.setattr(_chinese_clip, "read_preprocessing", without_reading)
        with pytest.raises(VerificationError, match="preprocessing differs from the checkpoint's own image processor"):
            build_repository(str(saved_by_transformers_5), tmp_path / "out")
        assert not (tmp_path / "out").exists()
