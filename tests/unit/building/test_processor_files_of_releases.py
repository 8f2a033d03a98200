"""Processor files of transformers 4.20, 4.57 and 5.23, with one key changed at a time, and the resulting pixels.

The pixels equal the pixels of the release, or the key is refused. `tests/reference/processor_files.py` made the files
and the expected pixels with the three releases.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.support.paths import ROOT
from tuwen import pixels
from tuwen_build.checkpoints import Preprocessing
from tuwen_build.checkpoints._preprocessor import read_preprocessing
from tuwen_build.errors import CheckpointError
from tuwen_build.verification.reference import normalised

MAKER = ROOT / "tests" / "reference" / "processor_files.py"
MADE = sorted(MAKER.with_suffix("").glob("*.json"))
SIDE, LEFT_OUT = 4, "left out"


def content(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return made


CASES = [
    pytest.param(path, case["key"], case["value"], case["result"], id=f"{path.stem}-{case['key']}-{case['value']}")
    for path in MADE
    for case in content(path)["cases"]
]


def resize_of(path: Path) -> Any:
    return "squash" if path.stem.startswith("chinese-clip") else "crop"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Return the picture that the releases preprocessed."""
    image: Image.Image = runpy.run_path(str(MAKER))["picture"]()
    return image


def served(rules: Preprocessing, image: Image.Image) -> NDArray[np.float32]:
    preprocessor = pixels.Preprocessor(rules.image_size, rules.resize)
    square = np.asarray(preprocessor.square(image)).transpose(2, 0, 1).copy()
    values: NDArray[np.float32] = normalised(torch.from_numpy(square)[None], rules)[0].numpy()
    return values


def check(folder: Path, resize: Any, expected: dict[str, Any], image: Image.Image) -> None:
    """Check that the server's pixel values equal the release's. If the file is refused, raise that error."""
    rules = read_preprocessing(folder, SIDE, resize)
    if "error" in expected:  # the release could not use this file
        return
    assert expected["shape"] == [3, SIDE, SIDE]
    wanted = np.array(expected["values"]).reshape(3, SIDE, SIDE)
    np.testing.assert_allclose(served(rules, image), wanted, rtol=0, atol=1e-5)


def test_there_are_files_of_every_release_and_family() -> None:
    names = {path.stem for path in MADE}
    both = {f"{family}-{release}" for family in ("clip", "chinese-clip") for release in ("4.57.1", "5.23.0")}
    assert names == both | {"clip-4.20.1"}  # transformers has Chinese-CLIP from 4.25 on


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_the_files_of_a_release_give_the_pixels_of_the_release(
    path: Path, tmp_path: Path, picture: Image.Image
) -> None:
    made = content(path)
    for name, settings in made["files"].items():
        (tmp_path / name).write_text(json.dumps(settings))
    check(tmp_path, resize_of(path), made["results"][0], picture)


@pytest.mark.parametrize(("path", "key", "value", "result"), CASES)
def test_a_changed_key_gives_the_pixels_of_its_release_or_is_refused(
    path: Path, key: str, value: Any, result: int, tmp_path: Path, picture: Image.Image
) -> None:
    made = content(path)
    holder, files = made["holder"], made["files"]
    settings = files[holder].get("image_processor", files[holder])
    changed = {name: old for name, old in settings.items() if name != key}
    if value != LEFT_OUT:
        changed[key] = value
    nested = "image_processor" in files[holder]
    for name, whole in {**files, holder: {**files[holder], "image_processor": changed} if nested else changed}.items():
        (tmp_path / name).write_text(json.dumps(whole))
    try:
        check(tmp_path, resize_of(path), made["results"][result], picture)
    except CheckpointError as error:
        assert holder in str(error)
        assert key in str(error) or (key == "default_to_square" and "size" in str(error))
