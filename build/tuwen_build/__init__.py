"""Turn a checkpoint into a verified Triton model repository, and run it with NVIDIA's tritonserver."""

from tuwen_build.checkpoints import Checkpoint, open_checkpoint
from tuwen_build.repository import BuildOptions, build_repository
from tuwen_build.server import EmbeddedServer, ServerOptions

__all__ = [
    "BuildOptions",
    "Checkpoint",
    "EmbeddedServer",
    "ServerOptions",
    "build_repository",
    "open_checkpoint",
]
