"""Reading and writing ``config.pbtxt`` with Triton's own protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tuwen.model_names import name_and_model
from tuwen_repository.text_files import replace_text

__all__ = ["config_path", "find_config", "read_config", "write_config"]

_HEADER = "# Written by `tuwen build`; the commented original is model_repository/ in tuwen's source.\n"


def config_path(repository: Path, model: str) -> Path:
    """Return the path of a model's configuration in a repository."""
    return repository / model / "config.pbtxt"


def find_config(repository: Path, model: str) -> Path:
    """Return the path of the configuration of a model, such as ``image_embedding``.

    If the repository has a name, the name of the model's folder begins with the repository's name.
    """
    for path in repository.glob(f"*{model}/config.pbtxt"):
        found = name_and_model(path.parent.name)
        if found is not None and found[1] == model:
            return path
    return config_path(repository, model)


def read_config(path: Path) -> ModelConfig:
    """Read a model's configuration.

    Raises:
        text_format.ParseError: the file is not a configuration.
    """
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def write_config(config: ModelConfig, path: Path) -> None:
    """Write a configuration to a new file, and then move the new file to the path.

    The earlier file is not changed: its other hard links keep the earlier content. If the new file cannot be written,
    for example because the disk is full, the earlier file stays at the path.
    """
    replace_text(path, _HEADER + text_format.MessageToString(config, as_utf8=True))
