"""Probe a server's container: every model must compute one small item, or finish other requests.

    python3 probe.py SECONDS PATIENCE [URL]

tritonserver reports that it is ready while the process of a model hangs, and before 26.04 even after the process died.
A full queue or a long batch is not a fault. A model is at fault if it does not answer within SECONDS and has finished
no request for PATIENCE seconds. For the next probe, a file stores since when each model has finished
no request. The exit code is 0 if all models are well. Otherwise the exit code is 1, and a line for each fault names
the model and the reason.
"""

import base64
import contextlib
import http.client
import json
import os
import struct
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4//8/AAX+Av4zEpUUAAAAAElFTkSuQmCC"
)
SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "INT32": 4, "INT64": 8, "FP16": 2, "FP32": 4}
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # not the proxy of the environment
LOOKS = 3.0  # seconds for the questions about a model that has not answered


class Server:
    def __init__(self, url, seconds):
        self.url = url
        self.deadline = time.monotonic() + seconds
        self.key = os.environ.get("RESTRICTED_KEY", "")

    def ask(self, path, body=None, headers=(), more=0.0):
        """Return the body of an answer. `more` is the number of seconds to wait beyond the deadline."""
        left = self.deadline + more - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time limit of the probe has passed")
        request = urllib.request.Request(f"{self.url}/v2/{path}", body, {"tuwen": self.key, **dict(headers)})
        with OPENER.open(request, timeout=left) as response:
            return response.read()

    def successes(self, model):
        [statistics] = json.loads(self.ask(f"models/{model}/stats", more=LOOKS))["model_stats"]
        return int(statistics["inference_stats"]["success"]["count"])

    def compute(self, model, inputs):
        described, payload = [], b""
        for tensor in inputs:
            shape = [max(1, int(size)) for size in tensor["shape"]]
            if tensor["datatype"] == "BYTES":
                item = PICTURE if tensor["name"] == "image" else b"a"
                data = struct.pack("<I", len(item)) + item
            else:
                count = 1
                for size in shape:
                    count *= size
                width = SIZES[tensor["datatype"]]
                one = b"\0" if tensor["datatype"].startswith("FP") else b"\1"
                data = (one + b"\0" * (width - 1)) * count
            described.append({**tensor, "shape": shape, "parameters": {"binary_data_size": len(data)}})
            payload += data
        header = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
        self.ask(f"models/{model}/infer", header + payload, headers)

    def obstacle(self, model):
        """Return the number of finished requests of a model, and why it did not answer; (0, None) if it answered."""
        successes = 0
        try:
            metadata = json.loads(self.ask(f"models/{model}"))
            if metadata["platform"] == "ensemble":
                return 0, None
            self.compute(model, metadata["inputs"])
        except (OSError, http.client.HTTPException) as error:
            with contextlib.suppress(OSError, http.client.HTTPException):
                successes = self.successes(model)
            return successes, str(error)
        return 0, None


def remembered(path):
    """Return the models that did not answer the last probe, from the file.

    Each model has the number of its finished requests, and the time at which this number last changed.
    """
    try:
        with open(path, encoding="utf-8") as file:
            start, models = json.load(file)
    except (OSError, ValueError):
        return {}
    return models if start == started() else {}


def remember(path, models):
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        json.dump([started(), models], file)
    os.replace(file.name, path)


def started():
    """Return the start time of the container, by which the file of an earlier container is recognised."""
    with open("/proc/1/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[19]


def faults(url, seconds, patience, path):
    server = Server(url, seconds)
    try:
        server.ask("health/ready")
        ready = json.loads(server.ask("repository/index", b'{"ready": true}'))
    except (OSError, http.client.HTTPException) as error:
        return [f"tritonserver: {error}"]
    models = sorted({model["name"] for model in ready})
    with ThreadPoolExecutor(max(1, len(models))) as pool:
        found = dict(zip(models, pool.map(server.obstacle, models), strict=True))
    before, now = remembered(path), time.time()
    waiting = {}
    for model, (successes, obstacle) in found.items():
        if obstacle is not None:
            count, since = before.get(model, (None, now))
            waiting[model] = (successes, since if count == successes else now)
    remember(path, waiting)
    return [
        f"{model}: {found[model][1]}, and no request was finished for {now - since:.0f} seconds"
        for model, (_, since) in waiting.items()
        if now - since >= patience
    ]


def main(seconds, patience, url="http://127.0.0.1:8000"):
    path = os.path.join(tempfile.gettempdir(), "tuwen-probe.json")
    found = faults(url, float(seconds), float(patience), path)
    print(*(found or ["every model is well"]), sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
