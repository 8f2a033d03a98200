"""Chinese-CLIP's own code (cn-clip 1.6.0), run apart from the project as the independent reference.

PYTHONPATH=$ORIGINALS python tests/reference/cn_clip_reference.py write LAYOUT VISION TEXT LAYERS OUTPUT
PYTHONPATH=$ORIGINALS python tests/reference/cn_clip_reference.py embed CHECKPOINT INPUTS.npz OUT.npz
PYTHONPATH=$ORIGINALS python tests/reference/cn_clip_reference.py characters REPOSITORY
"""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import originals  # noqa: F401 - first
import torch
from cn_clip import clip as cn_clip
from cn_clip.clip import bert_tokenizer
from cn_clip.clip.model import CLIP, convert_weights
from cn_clip.clip.utils import _tokenizer, image_transform
from native_names import native_names
from PIL import Image
from safetensors.torch import load_file
from served_tokenizer import compare_characters

from tuwen_build.seeded import perturb

MODEL_CONFIGS = Path(cn_clip.__file__).parent / "model_configs"


def write(layout: str, vision: str, text: str, layers: str, output: str) -> None:
    """Write a checkpoint with seeded random weights, as cn_clip's training or ModelScope would.

    Args:
        layout: ``native`` (a .pt file) or ``modelscope`` (a folder).
        vision, text: names in cn_clip/clip/model_configs, such as ``ViT-B-16``.
        layers: of each transformer, or ``all``.
        output: the file or folder. A native file says nothing of its architecture, so a JSON file with its
            suffix keeps that for `embed`.
    """
    configs = [_json(MODEL_CONFIGS / f"{name}.json") for name in (vision, text)]
    if layers != "all":
        configs[0]["vision_layers"] = configs[1]["text_num_hidden_layers"] = int(layers)
    torch.manual_seed(0)
    model = CLIP(**_arguments(*configs))
    perturb(model)
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    if layout == "native":
        content = {"epoch": 1, "step": 100, "name": "seeded", "state_dict": weights, "optimizer": {"state": {}}}
        torch.save(content, output)
        Path(output).with_suffix(".json").write_text(json.dumps(configs), encoding="utf-8")
        return
    folder = Path(output)
    folder.mkdir()
    for name, config in zip(("vision_model_config.json", "text_model_config.json"), configs, strict=True):
        (folder / name).write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(bert_tokenizer.default_vocab(), folder / "vocab.txt")
    width = configs[1]["text_hidden_size"]
    weights["module.bert.pooler.dense.weight"] = torch.randn(width, width)  # ModelScope's BertModel has one
    weights["module.bert.pooler.dense.bias"] = torch.randn(width)
    torch.save(weights, folder / "pytorch_model.bin")


def embed(checkpoint: str, inputs_path: str, output_path: str) -> None:
    """Embed encoded images and texts with cn_clip's model, preprocessing and tokenizer.

    INPUTS.npz holds `images` (object array of bytes) and `texts` (object array of str); OUT.npz gets unit
    vectors `image_embeddings` and `text_embeddings`.
    """
    inputs = np.load(inputs_path, allow_pickle=True)
    if checkpoint.endswith(".pt"):
        model, image_size = native_model(checkpoint)
    elif Path(checkpoint, "config.json").is_file():
        model, image_size = huggingface_model(checkpoint)
    else:
        model, image_size = modelscope_model(checkpoint)
    transform = image_transform(image_size)
    pixel_values = torch.stack([transform(Image.open(io.BytesIO(data))) for data in inputs["images"]])
    input_ids = cn_clip.tokenize(list(inputs["texts"]))
    with torch.inference_mode():
        images = torch.cat([model.encode_image(batch) for batch in pixel_values.split(8)])
        texts = torch.cat([model.encode_text(batch) for batch in input_ids.split(8)])
    np.savez(
        output_path,
        image_embeddings=(images / images.norm(dim=-1, keepdim=True)).numpy(),
        text_embeddings=(texts / texts.norm(dim=-1, keepdim=True)).numpy(),
    )


def characters(repository: str) -> None:
    """Compare the repository's tokenizer with cn_clip's on every character of Unicode, between letters."""
    compare_characters(
        repository, lambda text: [101, *_tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text)), 102]
    )


def native_model(file: str) -> tuple[CLIP, int]:
    """cn_clip's model as it was trained: in float32."""
    arguments = _arguments(*_json(Path(file).with_suffix(".json")))
    model = CLIP(**arguments)
    model.load_state_dict(_without(torch.load(file, weights_only=True)["state_dict"], "module."), strict=True)
    return model.eval(), arguments["image_resolution"]


def modelscope_model(folder: str) -> tuple[CLIP, int]:
    """cn_clip's model as ModelScope loads it: in float16, cast back to float32 when there is no GPU."""
    arguments = _arguments(*(_json(Path(folder, f"{part}_model_config.json")) for part in ("vision", "text")))
    model = CLIP(**arguments)
    convert_weights(model)
    weights = _without(torch.load(Path(folder, "pytorch_model.bin"), weights_only=True), "module.")
    model.load_state_dict({name: tensor for name, tensor in weights.items() if "pooler" not in name}, strict=True)
    return model.eval().float(), arguments["image_resolution"]


def huggingface_model(folder: str) -> tuple[CLIP, int]:
    """cn_clip's model with the weights of a Hugging Face Chinese-CLIP folder, renamed."""
    config = _json(Path(folder, "config.json"))
    vision, text = config["vision_config"], config["text_config"]
    model = CLIP(
        embed_dim=config["projection_dim"],
        image_resolution=vision["image_size"],
        vision_layers=vision["num_hidden_layers"],
        vision_width=vision["hidden_size"],
        vision_patch_size=vision["patch_size"],
        vision_head_width=vision["hidden_size"] // vision["num_attention_heads"],
        vocab_size=text["vocab_size"],
        text_attention_probs_dropout_prob=0.1,
        text_hidden_act="gelu",
        text_hidden_dropout_prob=0.1,
        text_hidden_size=text["hidden_size"],
        text_initializer_range=0.02,
        text_intermediate_size=text["intermediate_size"],
        text_max_position_embeddings=text["max_position_embeddings"],
        text_num_attention_heads=text["num_attention_heads"],
        text_num_hidden_layers=text["num_hidden_layers"],
        text_type_vocab_size=text["type_vocab_size"],
    )
    model.load_state_dict(native_names(load_file(f"{folder}/model.safetensors")), strict=True)
    return model.eval(), vision["image_size"]


def _arguments(vision: dict, text: dict) -> dict:
    arguments = {**vision, **text}
    if isinstance(arguments["vision_layers"], str):
        arguments["vision_layers"] = ast.literal_eval(arguments["vision_layers"])
    return arguments


def _without(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    {"write": write, "embed": embed, "characters": characters}[sys.argv[1]](*sys.argv[2:])
