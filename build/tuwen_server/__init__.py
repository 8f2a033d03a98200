"""The embedded server: NVIDIA's tritonserver from PyPI, with a Python-based backend for TorchScript."""

from tuwen_server._embedded import EmbeddedServer
from tuwen_server._installation import PACKAGES, ensure_installed, install_server
from tuwen_server._leftovers import guarded_folder
from tuwen_server._log import is_problem
from tuwen_server._supervisor import supervise
from tuwen_server.options import ServerOptions

__all__ = [
    "PACKAGES",
    "EmbeddedServer",
    "ServerOptions",
    "ensure_installed",
    "guarded_folder",
    "install_server",
    "is_problem",
    "supervise",
]
