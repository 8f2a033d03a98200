"""open_clip (open_clip_torch 3.3.0), run apart from the project as the independent reference for OpenAI's CLIP.

PYTHONPATH=$ORIGINALS python tests/reference/open_clip_reference.py vocabulary FOLDER
PYTHONPATH=$ORIGINALS python tests/reference/open_clip_reference.py embed CHECKPOINT_FOLDER INPUTS.npz OUT.npz
PYTHONPATH=$ORIGINALS python tests/reference/open_clip_reference.py characters REPOSITORY
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import unicodedata
from pathlib import Path

import numpy as np
import originals  # noqa: F401 - first
import torch
from native_names import native_names, transformer_names
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from safetensors.torch import load_file
from served_tokenizer import compare_characters


def write_vocabulary(folder: str) -> None:
    """Write the vocabulary as Hugging Face keeps it: ``vocab.json`` and ``merges.txt``."""
    tokenizer = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): index for token, index in tokenizer.encoder.items()}
    Path(folder, "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : len(tokenizer.bpe_ranks) + 1]
    Path(folder, "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", encoding="utf-8")


def embed(folder: str, inputs_path: str, output_path: str) -> None:
    """Embed encoded images and texts with open_clip's model, preprocessing and tokenizer.

    INPUTS.npz holds `images` (object array of bytes) and `texts` (object array of str); OUT.npz gets unit
    vectors `image_embeddings` and `text_embeddings`.
    """
    inputs = np.load(inputs_path, allow_pickle=True)
    model, image_size = openai_model(folder)
    transform = image_transform_v2(PreprocessCfg(size=image_size), is_train=False)
    pixel_values = torch.stack([transform(Image.open(io.BytesIO(data))) for data in inputs["images"]])
    input_ids = SimpleTokenizer(context_length=model.context_length)(list(inputs["texts"]))
    with torch.inference_mode():
        images = torch.cat([model.encode_image(batch, normalize=True) for batch in pixel_values.split(8)])
        texts = torch.cat([model.encode_text(batch, normalize=True) for batch in input_ids.split(8)])
    np.savez(output_path, image_embeddings=images.numpy(), text_embeddings=texts.numpy())


def characters(repository: str) -> None:
    """Compare the repository's tokenizer with open_clip's on every character that Python knows, between letters."""
    tokenizer = SimpleTokenizer()
    known = [
        chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")
    ]
    compare_characters(repository, lambda text: [49406, *tokenizer.encode(text)[:75], 49407], characters=known)


def openai_model(folder: str) -> tuple[CLIP, int]:
    """open_clip's model of OpenAI's architecture (QuickGELU) with the weights of a Hugging Face folder, renamed."""
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


if __name__ == "__main__":
    {"vocabulary": write_vocabulary, "embed": embed, "characters": characters}[sys.argv[1]](*sys.argv[2:])
