"""The HTTP edge: a web service that returns embeddings in the HTTP APIs that other tools already use.

The service is a stateless ASGI application over `tuwen.AsyncClient`. It speaks the APIs of OpenAI (embeddings), Cohere
(embed), Jina (rerank and classify), Weaviate (multi2vec-clip) and MT-Photos. It needs the extra ``edge``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuwen import MissingExtraError
from tuwen_edge.options import EdgeOptions

if TYPE_CHECKING:
    from tuwen_edge.app import create_app
    from tuwen_edge.server import EdgeThread, run_edge

__all__ = ["EdgeOptions", "EdgeThread", "create_app", "run_edge"]

_MODULES = {"EdgeThread": "server", "create_app": "app", "run_edge": "server"}


def __getattr__(name: str) -> Any:
    """Import a name that needs the extra, at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ImportError as error:
        raise MissingExtraError(f"the HTTP edge needs an extra ({error}): pip install 'tuwen[edge]'") from error
