"""Print what int8 does on this machine under limits to its CPU: ``python tests/int8_kernels_table.py``.

Each row is a new process with the variables of the row. It multiplies the matrices of a ViT-B/16 layer in int8 and in
float32, compares the largest products with their exact sums, and asks whether tuwen would compute int8 there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

_ENVIRONMENTS: tuple[dict[str, str], ...] = (
    {},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    *({"ONEDNN_MAX_CPU_ISA": limit} for limit in ("AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2", "SSE41")),
)
_ROWS, _WIDTH, _COLUMNS = 197, 768, 3072  # the patches of an image, and the layer's two widths
_ROUNDS = 5


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    print("| variables | int8, ms | float32, ms | exact sums | tuwen |\n|---|---|---|---|---|", flush=True)
    for variables in _ENVIRONMENTS:
        command = [sys.executable, __file__, "--measure"]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        name = ", ".join(f"`{key}={value}`" for key, value in variables.items()) or "none"
        answer = "refuses" if found["obstacle"] else "computes int8"
        exact = "yes" if found["exact"] else "no"
        print(f"| {name} | {found['int8']:.1f} | {found['float32']:.1f} | {exact} | {answer} |", flush=True)


def measure() -> dict[str, object]:
    """Return the best milliseconds of some products, whether sums are exact, and the obstacle to int8."""
    import torch

    from tuwen_repository.int8_kernels import int8_obstacle, int8_products_are_exact

    torch.set_num_threads(1)
    left = torch.randint(-127, 128, (_ROWS, _WIDTH), dtype=torch.int8)
    right = torch.randint(-127, 128, (_WIDTH, _COLUMNS), dtype=torch.int8)
    floats = left.float(), right.float()

    def best(product: object) -> float:
        taken = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            product()  # type: ignore[operator]
            taken.append(time.perf_counter() - start)
        return min(taken) * 1e3

    return {
        "int8": best(lambda: torch._int_mm(left, right)),
        "float32": best(lambda: floats[0] @ floats[1]),
        "exact": int8_products_are_exact(),
        "obstacle": int8_obstacle(),
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main()
