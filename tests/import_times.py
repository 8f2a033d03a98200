"""Print the CPU time that each command takes to show its help, and the libraries that it imports.

Run it with ``python -m tests.import_times``. Each command runs in five new processes, and the lowest CPU time counts.
Other programs on the machine change CPU time less than elapsed time.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

__all__ = ["Start", "main", "measured", "table"]

_RUNS = 5
_LIBRARIES = ("typer", "rich", "numpy")
_LARGE = ("numpy", "PIL", "grpc", "torch", "transformers", "pymilvus", "pyarrow", "locust", "matplotlib")
_PROGRAM = """
import atexit, json, sys
def tell():
    tops = {name.partition(".")[0] for name in sys.modules}
    print("\\n" + json.dumps({"modules": len(sys.modules), "tops": sorted(tops)}))
atexit.register(tell)
from tuwen_cli import main
sys.argv = ["tuwen", *sys.argv[1:]]
main()
"""


@dataclass(frozen=True)
class Start:
    """The measurements of one command line.

    Attributes:
        line: the command line without ``tuwen``.
        seconds: the lowest CPU time of a process, in seconds.
        modules: the number of imported modules.
        large: the names of the large libraries among the imports.
    """

    line: str
    seconds: float
    modules: int
    large: Sequence[str]


def measured(line: str, runs: int = _RUNS) -> Start:
    """Run a command line several times, and return its lowest CPU time and its imports."""
    seconds, told = [], {}
    for _ in range(runs):
        before = _children()
        command = [sys.executable, "-c", _PROGRAM, *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        seconds.append(_children() - before)
        told = json.loads(done.stdout.splitlines()[-1])
    return Start(line, min(seconds), told["modules"], [name for name in _LARGE if name in told["tops"]])


def table(starts: Sequence[Start]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = ["| command | CPU seconds | modules | large libraries |", "|---|---|---|---|"]
    for start in starts:
        large = ", ".join(start.large) or "none"
        lines.append(f"| `tuwen {start.line}` | {start.seconds:.2f} | {start.modules:,} | {large} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every command and print the table."""
    from tuwen_cli.commands import _TARGETS

    lines = ["--help", "no-such-command", *(f"{name} --help" for name in _TARGETS), "build --no-such-option"]
    print(table([measured(line) for line in lines]))
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    print(f"\n{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
