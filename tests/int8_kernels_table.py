"""Print the speed and the accuracy of int8 on this machine, under variables that limit the CPU's instructions.

Run it with ``python tests/int8_kernels_table.py``. Each row is a new process with the variables of the row. The process
multiplies the matrices of a ViT-B/16 layer in int8 and in float32, and checks that the int8 sums are exact. It also
asks whether tuwen would compute int8 there. The column of cosines has the lowest cosine between the int8 and the
float32 vectors of the demo's checkpoint.

``python tests/int8_kernels_table.py --measure [ROWS]`` measures this process alone and prints JSON. On an emulator, use
fewer rows, which leaves out the cosine:
``qemu-x86_64 -cpu Haswell python tests/int8_kernels_table.py --measure 8``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    *({"ONEDNN_MAX_CPU_ISA": limit} for limit in ("AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2", "SSE41")),
)
_ROWS, _WIDTH, _COLUMNS = 197, 768, 3072  # the tokens of an image, and the two widths of the layer
_ROUNDS = 9
_DEMO = Path(__file__).parents[1] / "build" / "demo" / "checkpoint"


def main() -> None:
    """Measure each row in a new process, and print the row at once."""
    columns = ("variables", "int8, CPU ms", "float32, CPU ms", "speed", "exact sums", "lowest cosine", "tuwen")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    for variables in _ENVIRONMENTS:
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        name = ", ".join(f"`{key}={value}`" for key, value in variables.items()) or "none"
        answer = "refuses" if found["obstacle"] else "computes int8"
        exact = "yes" if found["exact"] else "no"
        times = f"{found['int8']:.1f} | {found['float32']:.1f} | {found['float32'] / found['int8']:.2f}"
        print(f"| {name} | {times} | {exact} | {found['cosine']:.4f} | {answer} |", flush=True)


def measure(rows: int = _ROWS) -> dict[str, object]:
    """Measure products of two random matrices in this process.

    Args:
        rows: the number of rows of the first matrix.

    Returns:
        the CPU milliseconds of an ``int8`` and a ``float32`` product, the lowest of several rounds; whether int8 sums
        are ``exact``; the lowest ``cosine``; and the ``obstacle`` to int8 on this CPU. Values that do not apply are
        None.
    """
    import torch

    from tuwen_repository.int8_kernels import int8_obstacle, int8_products_are_exact

    torch.set_num_threads(1)
    left = torch.randint(-127, 128, (rows, _WIDTH), dtype=torch.int8)
    right = torch.randint(-127, 128, (_WIDTH, _COLUMNS), dtype=torch.int8)
    floats = left.float(), right.float()

    def best(product: object) -> float:
        taken = []
        for _ in range(_ROUNDS):
            start = time.process_time()
            product()  # type: ignore[operator]
            taken.append(time.process_time() - start)
        return min(taken) * 1e3

    return {
        "int8": best(lambda: torch._int_mm(left, right)),
        "float32": best(lambda: floats[0] @ floats[1]),
        "exact": int8_products_are_exact(),
        "cosine": _lowest_cosine() if rows == _ROWS else None,  # the cosine takes minutes on an emulated CPU
        "obstacle": int8_obstacle(),
    }


def _lowest_cosine() -> float:
    """Return the lowest cosine between int8 and float32 vectors of random pixels and of sample texts."""
    import torch

    from tuwen_build.checkpoints import open_checkpoint
    from tuwen_build.export.encoders import text_encoder, vision_encoder
    from tuwen_build.transformers_logging import quiet_transformers

    quiet_transformers()
    checkpoint = open_checkpoint(str(_DEMO))
    size = checkpoint.preprocessing.image_size
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    ids = torch.randint(1000, 8000, (8, 12))
    lowest = 1.0
    with torch.inference_mode():
        for make, inputs in ((vision_encoder, (pixels,)), (text_encoder, (ids, torch.ones_like(ids)))):
            exact, rounded = (make(checkpoint, precision)(*inputs) for precision in ("fp32", "int8"))
            lowest = min(lowest, float((exact * rounded).sum(dim=1).min()))
    return lowest


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*map(int, sys.argv[2:]))))
    else:
        main()
