"""open_clip (open_clip_torch 3.3.0), the independent reference for OpenAI's CLIP.

`tests.reference.interpreter` runs the commands of this module in a separate interpreter, without the project's code.
Every command writes its results to files in the existing folder `output`.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.reference import importable  # noqa: F401 - before open_clip

from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg  # isort: skip
from open_clip.tokenizer import SimpleTokenizer, default_bpe  # isort: skip
from open_clip.transform import PreprocessCfg, image_transform_v2  # isort: skip

from tests.reference.characters import assigned_characters, write_ids
from tests.reference.native_names import native_names, transformer_names

__all__ = ["COMMANDS", "vocabulary"]


def vocabulary(output: str) -> None:
    """Write open_clip's vocabulary in Hugging Face's format: ``vocab.json`` and ``merges.txt``."""
    tokenizer = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    entries = {names.get(token, token): index for token, index in tokenizer.encoder.items()}
    Path(output, "vocab.json").write_text(json.dumps(entries), encoding="utf-8")
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : len(tokenizer.bpe_ranks) + 1]
    Path(output, "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")


def embed(checkpoint: str, inputs: str, output: str) -> None:
    """Embed encoded images and texts with open_clip's model, preprocessing and tokenizer.

    Args:
        checkpoint: a folder in the layout of Hugging Face.
        inputs: an npz file with `images` (object array of bytes) and `texts` (object array of str).
        output: an existing folder. The file ``embeddings.npz`` there gets the unit vectors `images` and `texts`.
    """
    items = np.load(inputs, allow_pickle=True)
    model, image_size = openai_model(checkpoint)
    transform = image_transform_v2(PreprocessCfg(size=image_size), is_train=False)
    pixel_values = torch.stack([transform(Image.open(io.BytesIO(data))) for data in items["images"]])
    input_ids = SimpleTokenizer(context_length=model.context_length)(list(items["texts"]))
    with torch.inference_mode():
        images = torch.cat([model.encode_image(batch, normalize=True) for batch in pixel_values.split(8)])
        texts = torch.cat([model.encode_text(batch, normalize=True) for batch in input_ids.split(8)])
    np.savez(Path(output, "embeddings.npz"), images=images.numpy(), texts=texts.numpy())


def tokens(texts: list[str], output: str) -> None:
    """Write ``ids.json``: the token ids of each text, without the start and end tokens."""
    tokenizer = SimpleTokenizer()
    Path(output, "ids.json").write_text(json.dumps([tokenizer.encode(text) for text in texts]), encoding="utf-8")


def characters(output: str) -> None:
    """Write ``ids.npz``: for every assigned character, the token ids of the text `in_a_text(character)`."""
    tokenizer = SimpleTokenizer()
    write_ids(Path(output, "ids.npz"), assigned_characters(), lambda text: [49406, *tokenizer.encode(text), 49407])


def openai_model(folder: str) -> tuple[CLIP, int]:
    """Return open_clip's QuickGELU model with the renamed weights of a Hugging Face folder, and its image size."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    vision, text = config["vision_config"], config["text_config"]
    model = CLIP(
        embed_dim=config["projection_dim"],
        vision_cfg=CLIPVisionCfg(
            layers=vision["num_hidden_layers"],
            width=vision["hidden_size"],
            head_width=vision["hidden_size"] // vision["num_attention_heads"],
            patch_size=vision["patch_size"],
            image_size=vision["image_size"],
        ),
        text_cfg=CLIPTextCfg(
            context_length=text["max_position_embeddings"],
            vocab_size=text["vocab_size"],
            width=text["hidden_size"],
            heads=text["num_attention_heads"],
            layers=text["num_hidden_layers"],
        ),
        quick_gelu=True,
    )
    weights = _openai_names(load_file(Path(folder, "model.safetensors")))
    model.load_state_dict(weights, strict=True)
    return model.eval(), vision["image_size"]


def _openai_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {
        **native_names(weights),
        **transformer_names(weights, "text_model", "transformer"),
        "token_embedding.weight": weights["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": weights["text_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        renamed[f"ln_final.{kind}"] = weights[f"text_model.final_layer_norm.{kind}"]
    return renamed


COMMANDS = {"vocabulary": vocabulary, "embed": embed, "tokens": tokens, "characters": characters}
