"""``config.pbtxt`` in a file, through Triton's own protobuf."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

__all__ = ["config_path", "read_config", "write_config"]

_HEADER = "# Written by `tuwen build`; the commented original is model_repository/ in tuwen's source.\n"


def config_path(repository: Path, model: str) -> Path:
    """Where a repository has a model's."""
    return repository / model / "config.pbtxt"


def read_config(path: Path) -> ModelConfig:
    """A model's configuration.

    Raises:
        text_format.ParseError: the file holds no such thing.
    """
    return text_format.Parse(path.read_text(encoding="utf-8"), ModelConfig())


def write_config(config: ModelConfig, path: Path) -> None:
    """A configuration into a file of its own: another name of the same file keeps what it had."""
    path.unlink(missing_ok=True)
    path.write_text(_HEADER + text_format.MessageToString(config, as_utf8=True), encoding="utf-8")
