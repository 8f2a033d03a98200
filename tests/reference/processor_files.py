"""Record how one release of transformers saves image processors, and which pixels each setting gives.

    PYTHON tests/reference/processor_files.py

PYTHON is the interpreter of an environment with this release, numpy and Pillow. The files in
``tests/reference/processor_files`` come from several releases, and each release needs its own environment. Release 4.20
needs Python 3.10 and ``numpy<2``.

A record belongs to one release and one model family. It holds the content of the files that the processor's
``save_pretrained`` writes. For each changed setting, the record also holds the pixel values of a small picture, or the
error that the release raises.
"""

import contextlib
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import transformers
from PIL import Image

SIDE = 4
FILES = ("processor_config.json", "preprocessor_config.json")
SQUARE = {"height": SIDE, "width": SIDE}
BERT_VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CLIP_VOCABULARY = {"<|startoftext|>": 0, "<|endoftext|>": 1}
# The value None stands for null in the file. The value LEFT_OUT removes the key.
LEFT_OUT = "left out"
SIZES = [SIDE, 6, SQUARE, {"height": 6, "width": SIDE}, {"height": SIDE, "width": 6}, {"shortest_edge": SIDE}]
SIZES += [
    {"shortest_edge": 6},
    {"shortest_edge": SIDE, "longest_edge": 8},
    {"longest_edge": SIDE},
    [SIDE, SIDE],
    [SIDE, 6],
]
CHANGES = {
    "size": SIZES,
    "crop_size": SIZES,
    "default_to_square": [True, False],
    "resample": [0, 1, 2, 4, 5],
    "rescale_factor": [1 / 256, 1 / 127.5, 1.0],
    "image_mean": [[0.5, 0.5, 0.5], [0.1, 0.2, 0.3], 0.5],
    "image_std": [[0.5, 0.5, 0.5], [0.5, 0.25, 1.0], 0.5],
    "data_format": ["channels_first", "channels_last"],
    "pad_size": [{"height": 9, "width": 9}],
    "image_processor_type": [
        "ViTImageProcessor",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "ChineseCLIPImageProcessor",
    ],
    "feature_extractor_type": ["CLIPFeatureExtractor", "ChineseCLIPFeatureExtractor"],
}
FLAGS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad", "use_square_size")


def picture():
    """Return an RGB picture of 12 x 36 pixels, which the bicubic filters of Pillow 12 and 13 resize to equal pixels.

    On most pictures, one pixel in eight differs by 1 of 255, because the two versions round differently.
    """
    rows, columns, channels = np.indices((36, 12, 3))
    values = rows * 4 + columns * 6 + channels * 48 - rows // 6 * 24
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def saved(family, folder):
    """Save the processor of a model family in a folder, and return the class of its image processor.

    Return None if the release has no processor for the family.
    """
    if family == "chinese-clip":
        processor_class = getattr(transformers, "ChineseCLIPProcessor", None)
        if processor_class is None:
            return None
        (folder / "vocab.txt").write_text("".join(token + "\n" for token in BERT_VOCABULARY))
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        settings = {"size": SQUARE, "do_center_crop": False, "crop_size": SQUARE}
    else:
        processor_class = transformers.CLIPProcessor
        (folder / "vocab.json").write_text(json.dumps(CLIP_VOCABULARY))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder)
        settings = {"size": SIDE, "crop_size": SIDE}
    image_class = image_processor_class(family)
    processor_class(image_class(**settings), tokenizer).save_pretrained(folder)
    return image_class


def image_processor_class(family):
    """Return the class of a family's image processor that uses Pillow. Its name depends on the release."""
    name = {"chinese-clip": "ChineseCLIP", "clip": "CLIP"}[family]
    with contextlib.suppress(ImportError, AttributeError):
        module = __import__(
            f"transformers.models.{name_of(family)}.image_processing_pil_{name_of(family)}", fromlist=["x"]
        )
        return getattr(module, name + "ImageProcessorPil")
    return getattr(transformers, name + "ImageProcessor", None) or getattr(transformers, name + "FeatureExtractor")


def name_of(family):
    return {"chinese-clip": "chinese_clip", "clip": "clip"}[family]


def changes(settings):
    """Yield pairs of a setting's key and a value that differs from the saved value."""
    for key in sorted({*settings, *CHANGES, *FLAGS}):
        value = settings.get(key)
        others = list(CHANGES.get(key, ())) if key not in FLAGS else [True, False]
        for other in [*others, None, LEFT_OUT]:
            if other != (value if key in settings else LEFT_OUT) or type(other) is not type(value):
                yield key, other


def result(image_class, folder):
    """Preprocess the picture with the saved settings, and return the shape of the pixel values, or the error.

    If the shape is (3, SIDE, SIDE), the result also holds the values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = image_class.from_pretrained(folder)(picture(), return_tensors="np")["pixel_values"][0]
        values = np.asarray(made, dtype=np.float64)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:120]}
    if values.shape != (3, SIDE, SIDE):
        return {"shape": list(values.shape)}
    return {"shape": list(values.shape), "values": [float(f"{value:.7g}") for value in values.ravel()]}


def written(family):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image_class = saved(family, folder)
        if image_class is None:
            return None
        files = {file: json.loads((folder / file).read_text()) for file in FILES if (folder / file).is_file()}
        holder = next(file for file in FILES if file in files and "image_mean" in json.dumps(files[file]))
        nested = "image_processor" in files[holder]
        settings = files[holder]["image_processor"] if nested else files[holder]
        results, cases = [result(image_class, folder)], []
        for key, value in changes(settings):
            changed = {name: old for name, old in settings.items() if name != key}
            if value != LEFT_OUT:
                changed[key] = value
            (folder / holder).write_text(
                json.dumps({**files[holder], "image_processor": changed} if nested else changed)
            )
            found = result(image_class, folder)
            if found not in results:
                results.append(found)
            cases.append({"key": key, "value": value, "result": results.index(found)})
    return {"files": files, "holder": holder, "cases": cases, "results": results}


def main():
    for family in ("clip", "chinese-clip"):
        content = written(family)
        if content is None:
            continue
        path = Path(__file__).with_suffix("") / f"{family}-{transformers.__version__}.json"
        lines = [
            f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items() if key in ("files", "holder")
        ]
        for key in ("cases", "results"):
            lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in content[key]) + "\n]")
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        sys.stdout.write(f"{path}: {len(content['cases'])} changes, {len(content['results'])} results\n")


if __name__ == "__main__":
    main()
