"""The fingerprint of an embedding space. Vectors of two repositories may be compared only if
their fingerprints are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

import torch
from torch import nn

__all__ = ["arithmetic", "fingerprint"]

_SETTINGS = ("num_attention_heads", "hidden_act", "layer_norm_eps")


def fingerprint(encoders: Mapping[str, nn.Module], rules: Mapping[str, object], vocabulary: Iterable[bytes]) -> str:
    """Return a hash of everything that defines the space: weights in their precision, preprocessing, tokenizer.

    Args:
        encoders: the encoders by name. The name, type, shape and bytes of every parameter and buffer are hashed.
        rules: the other settings that change vectors: preprocessing, tokenization, context length, precision.
        vocabulary: the contents of the tokenizer's files.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode())
    for content in vocabulary:
        digest.update(hashlib.sha256(content).hexdigest().encode())
    for encoder_name, encoder in sorted(encoders.items()):
        for name, tensor in sorted(encoder.state_dict().items()):
            digest.update(f"{encoder_name}.{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def arithmetic(tower: nn.Module) -> list[dict[str, object]]:
    """Return the settings of a tower that are not weights: attention heads, activation functions and epsilons.

    Args:
        tower: a tower from a checkpoint. Its modules may hold a configuration of transformers or a number of heads.

    Returns:
        The distinct settings, in the order of the tower's modules.
    """
    found: list[dict[str, object]] = []
    for module in tower.modules():
        config = getattr(module, "config", None)
        settings = {name: getattr(config, name) for name in _SETTINGS if hasattr(config, name)}
        heads = getattr(module, "heads", None)
        if config is None and isinstance(heads, int):
            settings = {"num_attention_heads": heads}
        if settings and settings not in found:
            found.append(settings)
    return found
