"""Coverage-guided fuzzing (atheris) of the code that reads untrusted bytes.

    python -m tests.faults.fuzz SECONDS [TARGET ...]

runs each target of `tests.faults.targets` in a process of its own, and divides the time between them. An input that
takes more than half a second of one core, or makes the process grow by more than 256 MiB, is a finding, too. A run
starts from ``tests/faults/corpus`` and keeps new inputs in ``.cache/fuzz/corpus`` and findings in
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
_SECONDS_PER_ITEM = 0.5  # of one core, while `check` runs; a good item takes a few milliseconds
_GROWTH = 256 << 10  # KiB
_LONGEST = {"tokens": 4096, "filters": 1024, "urls": 512, "headers": 1024}  # bytes; of images 8192


def main(seconds: float, names: list[str]) -> int:
    """Run the targets one after the other. Return 1 if one of them has found something."""
    codes = []
    for name in names:
        print(f"{name}: {seconds / len(names):.0f} seconds", flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.fuzz", "--target", name]
        limits = [f"-max_total_time={seconds / len(names):.0f}", "-print_final_stats=1"]
        codes.append(subprocess.run([*command, *limits], check=False).returncode)
    return int(any(codes))


def fuzz(name: str, arguments: list[str]) -> None:
    """Fuzz one target in this process, with arguments of libFuzzer; never returns."""
    import atheris

    # Every package of this process would take minutes; these are the ones that read the inputs.
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
