"""Coverage-guided fuzzing (atheris) of the code that reads untrusted bytes.

    python -m tests.faults.fuzz SECONDS [TARGET ...]

The command runs each target of `tests.faults.targets` in its own process, and divides the time equally. A finding is an
input that raises an exception, needs more than half a second of CPU time, or makes the process grow by over 256 MiB.
A run starts from ``tests/faults/corpus``. New inputs are kept in ``.cache/fuzz/corpus``, and findings in
``.cache/fuzz/findings``. Add a finding to the committed corpus together with its fix.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["TARGETS", "fuzz", "main"]

TARGETS = ("pixels", "exif", "tokens", "filters", "urls", "headers")
_CORPUS = Path(__file__).parent / "corpus"
_INSTRUMENTED = ["PIL", "ftfy", "httpx", "idna", "milvus_lite", "tuwen", "tuwen_search", "tuwen_staged"]
_KEPT = Path(".cache/fuzz")
_SECONDS_PER_ITEM = 0.5  # seconds of one core for one input; a good item takes a few milliseconds
_GROWTH = 256 << 10  # KiB
_LONGEST = {"tokens": 4096, "filters": 1024, "urls": 512, "headers": 1024}  # bytes of an input; other targets: 8192


def main(seconds: float, names: list[str]) -> int:
    """Run each target in its own process, one after another. Return 1 if a target has a finding, else 0.

    Args:
        seconds: the duration of the whole run, which the targets share equally.
        names: the names of the targets, keys of `tests.faults.targets.TARGETS`.
    """
    codes = []
    for name in names:
        print(f"{name}: {seconds / len(names):.0f} seconds", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.fuzz", "--target", name]
        limits = [f"-max_total_time={seconds / len(names):.0f}", "-print_final_stats=1"]
        codes.append(subprocess.run([*command, *limits], check=False).returncode)
    return int(any(codes))


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process. libFuzzer ends the process, so that the function never returns.

    Args:
        name: the name of the target, a key of `tests.faults.targets.TARGETS`.
        arguments: options of libFuzzer, such as ``-max_total_time=60``.
    """
    import atheris

    # Only packages that read the inputs are instrumented; all packages would take minutes.
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.faults import targets

        check = targets.TARGETS[name]()
    peak = 0

    def one(data: bytes) -> None:
        nonlocal peak
        start = time.process_time()
        check(data)
        seconds = time.process_time() - start
        assert seconds < _SECONDS_PER_ITEM, f"{len(data)} bytes took {seconds:.2f} s of one core"
        before, peak = peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert not before or peak - before < _GROWTH, f"{len(data)} bytes took {(peak - before) >> 10} MiB"

    kept, findings = _KEPT / "corpus" / name, _KEPT / "findings"
    for folder in (kept, findings):
        folder.mkdir(parents=True, exist_ok=True)
    options = [f"-max_len={_LONGEST.get(name, 8192)}", "-timeout=60", f"-artifact_prefix={findings}/{name}-"]
    atheris.Setup([sys.argv[0], str(kept), str(_CORPUS / name), *options, *arguments], one)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1] == "--target":
        fuzz(sys.argv[2], sys.argv[3:])
    sys.exit(main(float(sys.argv[1]), sys.argv[2:] or list(TARGETS)))
