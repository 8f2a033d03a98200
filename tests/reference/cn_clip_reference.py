"""Chinese-CLIP's own code (cn-clip 1.6.0), the independent reference for Chinese-CLIP.

`tests.reference.interpreter` runs the commands of this module in a separate interpreter, without the project's code.
Every command writes its results to files in the existing folder `output`.
"""

from __future__ import annotations

import ast
import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.reference import importable  # noqa: F401 - before cn_clip

from cn_clip import clip as cn_clip  # isort: skip
from cn_clip.clip import bert_tokenizer  # isort: skip
from cn_clip.clip.model import CLIP, convert_weights  # isort: skip
from cn_clip.clip.utils import _tokenizer, image_transform  # isort: skip

from tests.reference.characters import assigned_characters, every_character, write_ids
from tests.reference.cn_clip_metrics import recall
from tests.reference.native_names import native_names
from tuwen_build.seeded import perturb

__all__ = ["COMMANDS"]

MODEL_CONFIGS = Path(cn_clip.__file__).parent / "model_configs"


def write(layout: str, vision: str, text: str, changes: dict, output: str) -> None:
    """Write a checkpoint with seeded random weights in the layout of cn_clip's training or of ModelScope.

    Args:
        layout: ``native`` (a file ``clip_cn.pt``) or ``modelscope`` (a folder ``checkpoint``).
        vision, text: the names of two files in cn_clip/clip/model_configs, such as ``ViT-B-16``.
        changes: values that replace the values of the two configurations, by key.
        output: an existing folder, in which the checkpoint is written. A native file does not hold the architecture,
            so a file ``clip_cn.json`` stores the architecture for `embed`.
    """
    configs = _configs(vision, text, changes)
    torch.manual_seed(0)
    model = CLIP(**_arguments(*configs))
    perturb(model)
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    if layout == "native":
        content = {"epoch": 1, "step": 100, "name": "seeded", "state_dict": weights, "optimizer": {"state": {}}}
        torch.save(content, Path(output, "clip_cn.pt"))
        Path(output, "clip_cn.json").write_text(json.dumps(configs), encoding="utf-8")
        return
    folder = Path(output, "checkpoint")
    folder.mkdir()
    for name, config in zip(("vision_model_config.json", "text_model_config.json"), configs, strict=True):
        (folder / name).write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(bert_tokenizer.default_vocab(), folder / "vocab.txt")
    width = configs[1]["text_hidden_size"]
    weights["module.bert.pooler.dense.weight"] = torch.randn(width, width)  # ModelScope's BertModel has a pooler
    weights["module.bert.pooler.dense.bias"] = torch.randn(width)
    torch.save(weights, folder / "pytorch_model.bin")


def embed(checkpoint: str, inputs: str, output: str) -> None:
    """Embed encoded images and texts with cn_clip's model, preprocessing and tokenizer.

    Args:
        checkpoint: a native file, or a folder in the layout of ModelScope or Hugging Face.
        inputs: an npz file with `images` (object array of bytes) and `texts` (object array of str).
        output: an existing folder. The file ``embeddings.npz`` there gets the unit vectors `images` and `texts`.
    """
    items = np.load(inputs, allow_pickle=True)
    if checkpoint.endswith(".pt"):
        model, image_size = native_model(checkpoint)
    elif Path(checkpoint, "config.json").is_file():
        model, image_size = huggingface_model(checkpoint)
    else:
        model, image_size = modelscope_model(checkpoint)
    transform = image_transform(image_size)
    pixel_values = torch.stack([transform(Image.open(io.BytesIO(data))) for data in items["images"]])
    input_ids = cn_clip.tokenize(list(items["texts"]))
    with torch.inference_mode():
        images = torch.cat([model.encode_image(batch) for batch in pixel_values.split(8)])
        texts = torch.cat([model.encode_text(batch) for batch in input_ids.split(8)])
    np.savez(
        Path(output, "embeddings.npz"),
        images=(images / images.norm(dim=-1, keepdim=True)).numpy(),
        texts=(texts / texts.norm(dim=-1, keepdim=True)).numpy(),
    )


def training_step(checkpoint: str, inputs: str, output: str) -> None:
    """Compute the loss and the gradients of one step with cn_clip's own function, without dropout.

    Args:
        checkpoint: a folder in the layout of Hugging Face.
        inputs: an npz file with normalised `pixels` (n, 3, S, S) and padded `input_ids` (n, L).
        output: an existing folder. The file ``gradients.npz`` there gets the gradients by cn_clip's names. The file
            ``step.json`` gets the `loss`, and the names of the weights without weight decay (`without_decay`).
    """
    from cn_clip.training import train

    model, _ = huggingface_model(checkpoint)
    given = np.load(inputs)
    cross_entropy = torch.nn.CrossEntropyLoss()
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # cn_clip puts the targets on a GPU
    settings = SimpleNamespace(
        **{"accum_freq": 1, "distillation": False, "aggregate": False, "mask_ratio": 0, "local_device_rank": 0},
        report_training_batch_acc=False,
    )
    tensors = torch.from_numpy(given["pixels"]), torch.from_numpy(given["input_ids"])
    loss, _ = train.get_loss(model, *tensors, cross_entropy, cross_entropy, settings)
    loss.backward()
    gradients = {name: one.grad.numpy() for name, one in model.named_parameters() if one.grad is not None}
    np.savez(Path(output, "gradients.npz"), **gradients)
    # The rule is a lambda within cn_clip/training/main.py, so it is taken from the source.
    source = Path(train.__file__).with_name("main.py").read_text(encoding="utf-8")
    [rule] = re.findall(r"^\s*exclude = (lambda .*)$", source, re.MULTILINE)
    excluded = eval(rule)
    without_decay = [name for name, _ in model.named_parameters() if excluded(name)]
    step = {"loss": float(loss.detach()), "without_decay": without_decay}
    Path(output, "step.json").write_text(json.dumps(step), encoding="utf-8")


def tokens(texts: list[str], output: str) -> None:
    """Write ``ids.json``: the token ids of each text, without the start and end tokens."""
    Path(output, "ids.json").write_text(json.dumps([token_ids(text) for text in texts]), encoding="utf-8")


def token_ids(text: str) -> list[int]:
    """Return the token ids of a text, without the start and end tokens."""
    return list(_tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text)))


def characters(output: str) -> None:
    """Write ``ids.npz``: for every assigned character, the token ids of the text `in_a_text(character)`."""
    write_ids(Path(output, "ids.npz"), assigned_characters(), lambda text: [101, *token_ids(text), 102])


def code_points(output: str) -> None:
    """Write ``ids.npz``: for every code point, the token ids of the text `in_a_text(character)`."""
    write_ids(Path(output, "ids.npz"), every_character(), lambda text: [101, *token_ids(text), 102])


def architecture(vision: str, text: str, output: str) -> None:
    """Write ``architecture.json``: the shapes of a published model's weights, and the head counts of both towers."""
    with torch.device("meta"):
        model = CLIP(**_arguments(*_configs(vision, text, {})))
    visual = model.visual
    heads = visual.attnpool.num_heads if hasattr(visual, "attnpool") else visual.transformer.resblocks[0].attn.num_heads
    described = {
        "shapes": {name: list(tensor.shape) for name, tensor in model.state_dict().items()},
        "heads": [heads, model.bert_config.num_attention_heads],
    }
    Path(output, "architecture.json").write_text(json.dumps(described), encoding="utf-8")


def native_model(file: str) -> tuple[CLIP, int]:
    """Return cn_clip's model with the weights of a native file in float32, and the model's image size."""
    arguments = _arguments(*_json(Path(file).with_suffix(".json")))
    model = CLIP(**arguments)
    model.load_state_dict(_without(torch.load(file, weights_only=True)["state_dict"], "module."), strict=True)
    return model.eval(), arguments["image_resolution"]


def modelscope_model(folder: str) -> tuple[CLIP, int]:
    """Return cn_clip's model as ModelScope loads it, and the model's image size.

    ModelScope rounds the weights to float16, and casts them back to float32 on a CPU.
    """
    arguments = _arguments(*(_json(Path(folder, f"{part}_model_config.json")) for part in ("vision", "text")))
    model = CLIP(**arguments)
    convert_weights(model)
    weights = _without(torch.load(Path(folder, "pytorch_model.bin"), weights_only=True), "module.")
    model.load_state_dict({name: tensor for name, tensor in weights.items() if "pooler" not in name}, strict=True)
    return model.eval().float(), arguments["image_resolution"]


def huggingface_model(folder: str) -> tuple[CLIP, int]:
    """Return cn_clip's model with the renamed weights of a Hugging Face folder, and the model's image size."""
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


def _configs(vision: str, text: str, changes: dict) -> list[dict]:
    configs = [_json(MODEL_CONFIGS / f"{name}.json") for name in (vision, text)]
    for key, value in changes.items():
        configs[key.startswith("text_")][key] = value
    return configs


def _arguments(vision: dict, text: dict) -> dict:
    arguments = {**vision, **text}
    if isinstance(arguments["vision_layers"], str):
        arguments["vision_layers"] = ast.literal_eval(arguments["vision_layers"])
    return arguments


def _without(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items()}


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


COMMANDS = {
    "write": write,
    "embed": embed,
    "training_step": training_step,
    "tokens": tokens,
    "characters": characters,
    "code_points": code_points,
    "architecture": architecture,
    "recall": recall,
}
