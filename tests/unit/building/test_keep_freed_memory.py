"""After `keep_freed_memory`, a large buffer that follows a freed one causes hardly any page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
from tuwen_repository.environment import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (64 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_a_second_large_buffer_takes_no_page_faults() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", _PROGRAM, mode], capture_output=True, check=True).stdout)
        for mode in ("returned", "kept")
    }
    if faults["returned"] < 1000:
        pytest.skip("this system's pages are large, or its C library keeps freed memory anyway")
    assert faults["kept"] < 100
