"""Run the real server with the arguments of the chart's pods, and change its models with `tuwen models`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.command import started, wait_until
from tests.support.repositories import Built
from tuwen import Client
from tuwen_build.options import BuildOptions
from tuwen_server import ServerOptions

pytest.importorskip("helm_python", reason="the package of Helm exists for Linux only")
from tests.support.chart import rendered

KEY = "the-key-of-the-test"


def arguments_of_the_pod(repositories: dict[str, Path], options: ServerOptions) -> list[str]:
    """Return tritonserver's arguments in a pod that loads only the first model at its start.

    Args:
        repositories: for each model's name, the folder that replaces the model's path in the pod.
        options: the server options with the ports that replace the ports of the pod.
    """
    models = [{"name": name, "loaded": number == 0} for number, name in enumerate(repositories)]
    objects = rendered({"models": models, "server": {"modelControl": "explicit"}})
    [container] = objects["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tritonserver"]
    arguments = [argument.replace("$(RESTRICTED_KEY)", KEY) for argument in container["args"]]
    for name, folder in repositories.items():
        arguments = [argument.replace(f"=/models/{name}", f"={folder}") for argument in arguments]
    ports = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    return arguments + [f"--{name}-port={port}" for name, port in ports.items()]


def test_models_and_aliases_of_a_running_pod_are_changed_with_the_key(built: Built, tmp_path: Path) -> None:
    repositories = {name: built(BuildOptions(name=name)) for name in ("b16", "next")}
    options = ServerOptions.on_free_ports().with_ports_resolved()
    url = f"localhost:{options.grpc_port}"
    command = [sys.executable, "-m", "tuwen_server.tritonserver", *arguments_of_the_pod(repositories, options)]

    def models(*words: str, key: str = KEY) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "tuwen_cli", "models", *words, "--url", url]
        environment = {**os.environ, "TUWEN_SERVER_KEY": key}
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=False)

    with (
        started(command, env={**os.environ, "TMPDIR": str(tmp_path)}) as process,
        Client(url, model="b16") as clip,
    ):
        wait_until(clip.is_ready, running=process, seconds=300)
        vectors = clip.embed_texts(["一只猫"])
        listed = {model["name"]: model["state"] for model in json.loads(models("list", "--json").stdout)["models"]}
        assert listed == {"b16": "loaded", "next": "unloaded"}
        refused = models("load", "next", key="the-key-of-another")
        assert refused.returncode != 0
        assert "set TUWEN_SERVER_KEY to the key of the server's restricted protocols" in refused.stderr
        for words in (("load", "next"), ("alias", "shop", "next"), ("unload", "b16")):
            done = models(*words)
            assert done.returncode == 0, done.stderr
        with Client(url, model="shop") as shop:
            assert np.allclose(shop.embed_texts(["一只猫"]), vectors)  # both are builds of one checkpoint
        process.terminate()
        assert process.wait(60) == 0
