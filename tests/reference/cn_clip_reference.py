"""Chinese-CLIP's own code (cn-clip 1.6.0), run apart from the project as the independent reference.

It needs torchvision, which must not be in the project's environment: transformers would then resize with it.
So ``tests/reference/install.sh`` puts both in a folder of their own, and this script runs with it on its path:

    PYTHONPATH=.venv-reference python tests/reference/cn_clip_reference.py tokens > build/tuwen_build/samples/texts.json
    PYTHONPATH=.venv-reference python tests/reference/cn_clip_reference.py embed CHECKPOINT_FOLDER INPUTS.npz OUT.npz
    PYTHONPATH=.venv-reference python tests/reference/cn_clip_reference.py characters REPOSITORY
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# PyPI's torchvision is built for CUDA and, beside a CPU build of torch, fails to find two operators that
# nothing here uses; declaring them is enough to import it.
if torch.version.cuda is None:
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
warnings.simplefilter("ignore")

import cn_clip.clip as cn_clip  # noqa: E402
from cn_clip.clip import bert_tokenizer  # noqa: E402
from cn_clip.clip.model import CLIP  # noqa: E402
from cn_clip.clip.utils import _tokenizer, image_transform  # noqa: E402

# name, text, repetitions, whether every BERT tokenizer agrees on it
TEXTS = [
    ("chinese", "一只可爱的橘猫在沙发上睡觉", 1, True),
    ("short", "猫", 1, True),
    ("english", "A photo of a tabby cat, sleeping.", 1, True),
    ("mixed", "红色iPhone 15 Pro手机壳，包邮！", 1, True),
    ("unknown_words", "supercalifragilistic naïve façade Ελλάδα Привет", 1, True),
    ("traditional", "臺灣的貓熊與鳳梨酥", 1, True),
    ("numbers", "2024年12月25日，价格¥1,299.00，-15℃", 1, True),
    ("exactly_50_tokens", "猫" * 50, 1, True),
    ("51_tokens", "猫" * 51, 1, True),
    ("empty", "", 1, True),
    ("spaces", "     ", 1, True),
    ("emoji", "😀👍🏽👨‍👩‍👧‍👦🇨🇳❤️ 笑脸", 1, False),
    ("rare_cjk", "𠮷野家 㐀㐁 𪚥 𫝀 𫠠 𬺰 豈更車 你", 1, False),
    ("extension_e", "𫠠𬺰a𫠡b", 1, False),
    ("full_width", "ＡＢＣ１２３，。！？（全角）　空格", 1, False),
    ("japanese_korean", "ひらがなカタカナｶﾀｶﾅ 한국어 테스트", 1, False),
    ("10000_characters", "一只猫 a cat, ", 1000, False),
    ("long_word_100", "a" * 100, 1, False),
    ("long_word_150", "a" * 150, 1, False),
    ("long_word_201", "a" * 201, 1, False),
    (
        "control_characters",
        "a\x00b\x01c\td\ne\rf\x0bg\x0ch\x1fi\x7fj\x85k\u200bl\u200em\ufeffn\u2028o\u2029p",
        1,
        False,
    ),
    ("special_tokens", "[SEP] 猫 [CLS][MASK] [PAD] [UNK]", 1, False),
    ("quotes", "“猫”和‘狗’ \"cat\" 'dog' 「鳥」", 1, False),
    ("private_use", "\ue000猫\uf8ff", 1, False),
    ("final_sigma", "ΟΔΥΣΣΕΥΣ Σ ΑΣ猫 ΑΣ.", 1, False),
    ("combining", "e\u0301 n\u0303 ñ İstanbul ｅ\u0301 ก็ ा", 1, False),
    ("replacement", "猫\ufffd狗", 1, False),
    ("bidirectional", "\u202eabc\u202c \u2067אבג\u2069", 1, False),
    ("new_punctuation", "⸺猫⸻𐫰𞥞", 1, False),
    ("html", "&amp; <b>猫</b> &nbsp;", 1, False),
]


def tokens() -> None:
    """Print the awkward texts with the ids that cn_clip's tokenizer gives them."""
    with open(bert_tokenizer.default_vocab(), "rb") as file:
        vocabulary = hashlib.sha256(file.read()).hexdigest()
    texts = []
    for name, text, times, everyday in TEXTS:
        ids = _tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text * times))[:510]
        entry = {"name": name, "text": text, "times": times, "everyday": everyday, "token_ids": ids}
        texts.append({key: value for key, value in entry.items() if (key, value) != ("times", 1)})
    head = {
        "made_by": "tests/reference/cn_clip_reference.py tokens, with cn-clip 1.6.0",
        "vocabulary_sha256": vocabulary,
    }
    lines = ",\n".join("    " + json.dumps(entry, ensure_ascii=True) for entry in texts)
    print(json.dumps(head)[:-1] + ', "texts": [\n' + lines + "\n]}")


def embed(folder: str, inputs_path: str, output_path: str) -> None:
    """Embed encoded images and texts with cn_clip's model, preprocessing and tokenizer.

    INPUTS.npz holds `images` (object array of bytes) and `texts` (object array of str); OUT.npz gets unit
    vectors `image_embeddings` and `text_embeddings`.
    """
    inputs = np.load(inputs_path, allow_pickle=True)
    model, image_size = native_model(folder)
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
    sys.path.insert(0, f"{repository}/text_tokenization/1")
    from tokens import load_tokenizer

    tokenizer = load_tokenizer(Path(repository) / "text_tokenization" / "1")
    texts = [f"A{chr(code)}bΣ" for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    different = []
    for start in range(0, len(texts), 20_000):
        chunk = texts[start : start + 20_000]
        encoded = tokenizer.encode(chunk)
        for text, ids, mask in zip(chunk, encoded.input_ids, encoded.attention_mask, strict=True):
            expected = [101, *_tokenizer.convert_tokens_to_ids(_tokenizer.tokenize(text)), 102]
            if ids[: mask.sum()].tolist() != expected:
                different.append(text)
    print(json.dumps({"compared": len(texts), "different": different[:20]}))


def native_model(folder: str) -> tuple[CLIP, int]:
    """cn_clip's model with the weights of a Hugging Face Chinese-CLIP folder, renamed."""
    from safetensors.torch import load_file

    with open(f"{folder}/config.json", encoding="utf-8") as file:
        config = json.load(file)
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
    model.load_state_dict(_native_names(load_file(f"{folder}/model.safetensors")), strict=True)
    return model.eval(), vision["image_size"]


def _native_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    native = {
        "logit_scale": weights["logit_scale"],
        "text_projection": weights["text_projection.weight"].T,
        "visual.proj": weights["visual_projection.weight"].T,
        "visual.class_embedding": weights["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": weights["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": weights["vision_model.embeddings.position_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        native[f"visual.ln_pre.{kind}"] = weights[f"vision_model.pre_layrnorm.{kind}"]
        native[f"visual.ln_post.{kind}"] = weights[f"vision_model.post_layernorm.{kind}"]
    for name, tensor in weights.items():
        if name.startswith("text_model.") and "pooler" not in name and "position_ids" not in name:
            native["bert." + name.removeprefix("text_model.")] = tensor
    layers = {name.split(".")[3] for name in weights if name.startswith("vision_model.encoder.layers.")}
    pairs = {
        "attn.out_proj": "self_attn.out_proj",
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for layer in layers:
        ours, theirs = f"vision_model.encoder.layers.{layer}", f"visual.transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            for native_name, name in pairs.items():
                native[f"{theirs}.{native_name}.{kind}"] = weights[f"{ours}.{name}.{kind}"]
            native[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(
                [weights[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            )
    return native


if __name__ == "__main__":
    {"tokens": tokens, "embed": embed, "characters": characters}[sys.argv[1]](*sys.argv[2:])
