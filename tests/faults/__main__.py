"""Run every attack of ``make test-faults`` on the server of a small model, and print a table of the outcomes.

    python -m tests.faults [--items 100000] [--requests 5000] [--connections 2000] [--mixed 20000]
        [--storm 60] [--soak 120] [--seed 0]

The run takes about twenty minutes on two cores, and writes the table to ``.cache/faults/report.md``. The exit code is 1
if an attack found a fault, else 0.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults._outcome import Outcome, table
from tests.faults.breakdowns import attack_by_replacing, attack_from_beneath
from tests.faults.endurance import soak, storm
from tests.faults.items import attack_with_items
from tests.faults.mixed import attack_with_mixed_requests
from tests.faults.wire import attack_ports, attack_with_requests
from tuwen_build.repository import build_repository
from tuwen_build.seeded import write_seeded_checkpoint
from tuwen_loadtest._machine import processor, versions
from tuwen_server import PACKAGES, EmbeddedServer, ServerOptions

OUTPUT = Path(".cache/faults")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--items",
        type=int,
        default=100_000,
        help="Number of hostile items; one good item is added for every five of them (default: 100000).",
    )
    parser.add_argument(
        "--requests",
        type=int,
        default=5_000,
        help="Number of malformed gRPC requests; attacks on ports use a fifth of this number (default: 5000).",
    )
    parser.add_argument(
        "--connections", type=int, default=2_000, help="Number of idle connections to each port (default: 2000)."
    )
    parser.add_argument(
        "--mixed",
        type=int,
        default=20_000,
        help="Number of mixed requests; 1 %% of the requests are made to fail (default: 20000).",
    )
    parser.add_argument("--storm", type=float, default=60, help="Duration of the overload, in seconds (default: 60).")
    parser.add_argument(
        "--soak",
        type=float,
        default=120,
        help="Duration of the soak in seconds (default: 120). Memory, open files and threads must not grow in it.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the random items and requests (default: 0).")
    options = parser.parse_args()
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {line}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        outcomes = list(_attacks(Path(folder), options, say))
    server = {"nvidia-pytriton": PACKAGES["nvidia-pytriton"]}
    used = ", ".join(f"{name} {number}" for name, number in (versions(("pillow", "grpcio")) | server).items())
    text = f"{table(outcomes)}\nOn {processor()}; {used}.\n"
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "report.md").write_text(text, encoding="utf-8")
    wrong = [f"{outcome.tried}: {one}" for outcome in outcomes for one in outcome.wrong]
    print(text, *wrong, f"The table was written to {OUTPUT / 'report.md'}.", sep="\n")
    return 1 if wrong else 0


def _attacks(folder: Path, options: argparse.Namespace, say: Callable[[str], None]) -> Iterator[Outcome]:
    repository, other = (_built(folder / str(seed), seed) for seed in (0, 1))
    yield from attack_from_beneath(repository, times=1, say=say)
    yield from attack_by_replacing(repository, other, folder, say=say)
    yield from attack_with_mixed_requests(repository, folder, requests=options.mixed, seed=options.seed, say=say)
    with EmbeddedServer(repository, ServerOptions.on_free_ports()) as server:
        yield from attack_with_items(
            server, repository, hostile=options.items, good=options.items // 5, seed=options.seed, say=say
        )
        yield from attack_with_requests(server, times=options.requests, seed=options.seed, say=say)
        yield from attack_ports(
            server, times=options.requests // 5, connections=options.connections, seed=options.seed, say=say
        )
        yield from storm(server, seconds=options.storm, say=say)
        yield from soak(server, seconds=options.soak, say=say)
        yield Outcome("the server during the attacks", 1, "the same process ran throughout", _ended(server))


def _built(folder: Path, seed: int) -> Path:
    """Build a repository from a small checkpoint with random weights, and return its folder."""
    checkpoint = write_seeded_checkpoint(folder / "checkpoint", seed=seed)
    build_repository(str(checkpoint), folder / "repository")
    return folder / "repository"


def _ended(server: EmbeddedServer) -> list[str]:
    trouble = server.trouble()
    return [trouble] if trouble else []


if __name__ == "__main__":
    sys.exit(main())
