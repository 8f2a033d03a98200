"""Text vectors by the recipe of Taiyi's model cards (IDEA-CCNL on the Hugging Face hub), with transformers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertForSequenceClassification, BertModel, BertTokenizer

__all__ = ["embed_with_model_card"]

_LENGTH = 77


def embed_with_model_card(folder: Path, texts: list[str], *, padded: bool = False) -> NDArray[np.float32]:
    """Return unit vectors of texts from ``BertModel(ids)[1]`` or ``BertForSequenceClassification(ids).logits``.

    Args:
        folder: the folder of the text tower, whose ``config.json`` names one of these two classes.
        texts: the texts. They are cut to 77 tokens, as in Fengshenbang-LM's training, and special tokens in them are
            read as text.
        padded: True: pad to 77 tokens and pass no attention mask, as the cards do. False: compute each text alone,
            without padding. The vectors are the same as with padding and an attention mask.
    """
    tokenizer: Any = BertTokenizer.from_pretrained(folder)
    architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    classifies = architecture == "BertForSequenceClassification"
    model: Any = (BertForSequenceClassification if classifies else BertModel).from_pretrained(folder).eval()
    padding = {"padding": "max_length"} if padded else {}
    rows = []
    with torch.inference_mode():
        for text in texts:
            encoded = tokenizer(
                text,
                return_tensors="pt",
                truncation=True,
                max_length=_LENGTH,
                split_special_tokens=True,
                **padding,
            )
            output = model(encoded["input_ids"])
            rows.append(output.logits if classifies else output[1])
    vectors = torch.cat(rows)
    result: NDArray[np.float32] = (vectors / vectors.norm(dim=1, keepdim=True)).numpy()
    return result
