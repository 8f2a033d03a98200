"""Turn a checkpoint into a verified Triton model repository, and run it with NVIDIA's tritonserver.

Import from its rooms, so that serving needs nothing of what building does::

    from tuwen_build.repository import BuildOptions, build_repository   # extra "build"
    from tuwen_server import EmbeddedServer, ServerOptions        # extra "serve"
"""

__all__: list[str] = []
