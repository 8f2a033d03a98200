"""The embedded server: NVIDIA's tritonserver from PyPI, with a Python-based backend for TorchScript."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuwen_server._embedded import EmbeddedServer
    from tuwen_server._installation import PACKAGES, ensure_installed, install_server
    from tuwen_server._leftovers import guarded_folder
    from tuwen_server._log import is_problem
    from tuwen_server._supervisor import supervise
    from tuwen_server.models import ModelAdministrator, ServedModel
    from tuwen_server.options import ServerOptions

__all__ = [
    "PACKAGES",
    "EmbeddedServer",
    "ModelAdministrator",
    "ServedModel",
    "ServerOptions",
    "ensure_installed",
    "guarded_folder",
    "install_server",
    "is_problem",
    "supervise",
]

_MODULES = {
    "PACKAGES": "_installation",
    "EmbeddedServer": "_embedded",
    "ModelAdministrator": "models",
    "ServedModel": "models",
    "ServerOptions": "options",
    "ensure_installed": "_installation",
    "guarded_folder": "_leftovers",
    "install_server": "_installation",
    "is_problem": "_log",
    "supervise": "_supervisor",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name at its first use, because the command line often needs only the options."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
