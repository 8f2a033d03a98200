"""Tests of the command line in a separate process: the installed script, pipes, and the exit code after Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.support.command import TUWEN, started, tuwen_process, wait_until
from tuwen_files import EmbeddingTable
from tuwen_server import EmbeddedServer


def test_the_installed_script_prints_help() -> None:
    shown = tuwen_process("--help").stdout
    assert "Usage: tuwen" in shown
    assert "similarity" in shown


def test_names_the_extra_that_is_missing(tmp_path: Path) -> None:
    """Without torch, `tuwen build` fails and names the command that installs the missing extra."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['build', 'x', '-o', 'y']\n"
        "import tuwen_cli; tuwen_cli.main()"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert finished.returncode == 1
    assert "pip install 'tuwen[build]'" in finished.stderr


def test_reads_texts_from_a_pipe(server: EmbeddedServer, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npz"
    finished = tuwen_process(
        *("embed", "--texts-from", "-", "-o", str(output), "-u", server.grpc_url), stdin="猫\n狗\n" + "猫" * 60
    )
    assert "1 texts are longer than 52 tokens; their ends were ignored" in finished.stderr
    assert len(EmbeddingTable.load(output)) == 3


def test_ctrl_c_ends_with_exit_code_130(server: EmbeddedServer, tmp_path: Path) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "vectors.npz"
    texts.write_text("\n".join(f"第{number}句" for number in range(200_000)), encoding="utf-8")
    command = [TUWEN, "embed", "--texts-from", str(texts), "-o", str(output), "-u", server.grpc_url]
    with started(command, stderr=subprocess.PIPE, text=True) as process:
        wait_until((tmp_path / "vectors.npz.parts" / "000000.npz").exists, running=process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopping; run the same command again to resume" in errors
    assert "Traceback" not in errors
