"""Every way to start a server closes the same protocols to callers without a key."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tuwen_server._drain import ModelControl

ENTRY_POINT = ROOT / "docker" / "serve.sh"
KEY = "a-key-of-an-operator"
RESTRICTIONS = ("--grpc-restricted-protocol", "--http-restricted-api")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder with a fake `tritonserver`, which prints its arguments and the key variable, one on each line."""
    program = tmp_path / "tritonserver"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" "seen=${TUWEN_SERVER_KEY-nothing}"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


def started(programs: Path, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the entry point of the image with the fake `tritonserver`."""
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", **({} if key is None else {"TUWEN_SERVER_KEY": key})}
    return subprocess.run([ENTRY_POINT, *arguments], env=environment, capture_output=True, text=True, check=False)


def restrictions(arguments: list[str]) -> dict[str, tuple[set[str], str, str]]:
    """Return, for each option of tritonserver that closes protocols, these protocols, the header's name and the key."""
    found = {}
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option in RESTRICTIONS:
            protocols, _, header = value.partition(":")
            name, _, key = header.partition("=")
            found[option] = (set(protocols.split(",")), name, key)
    return found


def of_tuwen_serve() -> dict[str, tuple[set[str], str, str]]:
    return restrictions(ModelControl(KEY, http_inference=True).arguments())


def test_the_image_closes_what_tuwen_serve_closes(programs: Path) -> None:
    done = started(programs, key=KEY)
    assert restrictions(done.stdout.splitlines()) == of_tuwen_serve()


def test_the_chart_closes_what_tuwen_serve_closes() -> None:
    pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
    from tests.support.chart import rendered

    [server] = rendered({})["Deployment"]["spec"]["template"]["spec"]["containers"]
    arguments = [argument.replace("$(RESTRICTED_KEY)", KEY) for argument in server["args"]]
    assert restrictions(arguments) == of_tuwen_serve()


def test_the_command_of_the_guide_closes_what_tuwen_serve_closes(programs: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
    [script] = re.findall(r"bash -c '(pip install .*?)'\n```", guide, re.DOTALL)
    (programs / "pip").symlink_to("/bin/true")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    closed = restrictions(done.stdout.splitlines())
    assert {option: of[:2] for option, of in closed.items()} == {
        option: of[:2] for option, of in of_tuwen_serve().items()
    }
    assert len({key for _, _, key in closed.values()}) == 1
    assert all(len(key) >= 16 for _, _, key in closed.values())


def test_the_image_starts_with_the_script_that_closes_the_protocols() -> None:
    recipe = (ROOT / "docker" / "server.Dockerfile").read_text(encoding="utf-8")
    [source, target] = re.findall(r"^COPY .*?(docker/serve\.sh) /usr/local/bin/(\S+)$", recipe, re.MULTILINE)[0]
    assert (ROOT / source) == ENTRY_POINT
    assert f'ENTRYPOINT ["{target}"]' in recipe
    assert os.access(ENTRY_POINT, os.X_OK)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_the_image_takes_a_random_one(programs: Path, key: str | None) -> None:
    keys = set()
    for _ in range(2):
        closed = restrictions(started(programs, key=key).stdout.splitlines())
        keys |= {key for _, _, key in closed.values()}
    assert len(keys) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", key) for key in keys)


@pytest.mark.parametrize("key", ["short", "a key with some spaces", "a:key=with,separators"])
def test_refuses_a_key_that_tritonserver_would_misread(programs: Path, key: str) -> None:
    done = started(programs, key=key)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "TUWEN_SERVER_KEY must have at least 16 letters, digits, '-', '_' or '.'\n"


def test_passes_arguments_on_and_keeps_the_key_from_the_models(programs: Path) -> None:
    done = started(programs, "--model-repository=/a folder", "--log-verbose=1", key=KEY)
    assert done.stdout.splitlines()[-3:] == ["--model-repository=/a folder", "--log-verbose=1", "seen=nothing"]
