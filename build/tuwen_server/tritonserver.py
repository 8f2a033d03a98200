"""Run the embedded tritonserver as the command of a container: with Triton's arguments, without supervisor and checks.

    python -m tuwen_server.tritonserver --model-repository=/models ...

In the image for CPUs, the command ``tritonserver`` runs this module. So the Helm chart starts both images alike: this
image and NVIDIA's.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tuwen_server._runtime import find_runtime
from tuwen_server.errors import UnsupportedPlatformError

__all__ = ["main"]

_BACKENDS = "--backend-directory"
_WARNING = (
    "tuwen: this tritonserver is Triton 2.51, for development: it has known vulnerabilities. "
    "In production run NVIDIA's image (docker/server.Dockerfile), which serves on a CPU too."
)


def main(arguments: Sequence[str]) -> NoReturn:
    """Replace this process by tritonserver.

    Args:
        arguments: the arguments of tritonserver. The backends of `tuwen serve` are the default ``--backend-directory``.

    Raises:
        SystemExit: the server cannot be started. The message says why.
    """
    try:
        runtime = find_runtime()
        folder = Path(tempfile.mkdtemp(prefix="tuwen-backends-"))
        runtime.assemble_backends(folder)
    except (UnsupportedPlatformError, OSError) as error:
        raise SystemExit(f"cannot start tritonserver: {error}") from error
    print(_WARNING, file=sys.stderr, flush=True)  # noqa: T201
    chosen = list(arguments)
    if not any(one.partition("=")[0] == _BACKENDS for one in chosen):
        chosen.append(f"{_BACKENDS}={folder}")
    os.execve(runtime.binary, [str(runtime.binary), *chosen], runtime.environment(folder))  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
