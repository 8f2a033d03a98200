"""Attacks on the server's ports with malformed requests and broken connections.

The server must refuse each malformed request, and must answer good requests at the same time.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.faults._outcome import Outcome
from tuwen import Client
from tuwen_server import EmbeddedServer

__all__ = ["attack_ports", "attack_with_requests"]

# RESOURCE_EXHAUSTED: an error message that quotes the request can be too long for a gRPC trailer.
_REFUSALS = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
_HARMLESS = {("empty batches", "the expected vector"), ("token ids outside the vocabulary", "unit vectors")}
# Every path except the health checks is restricted. On open paths, Triton 2.51 answers invalid JSON with 500.
_HTTP_REFUSALS = {"400", "403", "404", "500"}
_Tensor = service_pb2.ModelInferRequest.InferInputTensor


def _request(model: str, name: str, datatype: str, shape: list[int], raw: bytes, **fields: Any) -> Any:
    message = service_pb2.ModelInferRequest(model_name=model, **fields)
    message.inputs.append(_Tensor(name=name, datatype=datatype, shape=shape))
    message.raw_input_contents.append(raw)
    return message


def _strings(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def _requests(choose: random.Random) -> Iterator[tuple[str, Any]]:
    """Yield pairs of a fault's name and a request with this fault, endlessly, with all kinds of faults in turn."""
    while True:
        model, name = choose.choice((("image_embedding", "image"), ("text_embedding", "text")))
        good = _strings("一只猫".encode())
        shape = choose.choice(([2, 1], [-1, 1], [1], [1, 1, 1], [1 << 31, 1 << 31], []))
        yield "wrong shapes", _request(model, name, "BYTES", shape, good)
        empty = choose.choice(([0, 1], [1 << 40, 1]))  # Triton truncates 1 << 40 to 32 bits
        yield "empty batches", _request(model, name, "BYTES", empty, good)
        datatype = choose.choice(("FP32", "UINT8", "INT64", "BOOL", "NONSENSE", ""))
        yield "wrong types", _request(model, name, datatype, [1, 1], bytes(choose.choice((1, 4, 8))))
        other = choose.choice(("", "IMAGE", "image\0", "pixel_values", "x" * 10_000))
        yield "wrong names", _request(model, other, "BYTES", [1, 1], good)
        unknown = choose.choice(("", "../text_encoder", "text_embedding/1", "猫", "text_embedding" * 100))
        yield "unknown models", _request(unknown, name, "BYTES", [1, 1], good)
        version = choose.choice(("2", "-1", "猫", "99999999999999999999"))
        yield "unknown versions", _request(model, name, "BYTES", [1, 1], good, model_version=version)
        several = choose.choice((33, 40, 64))
        yield "batches over the maximum", _request(model, name, "BYTES", [several, 1], _strings(*[b"x"] * several))
        lengths = choose.choice(
            (b"", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7fab", b"\0", good + b"\0", good * 2, b"\x01\0\0\0")
        )
        yield "wrong string lengths", _request(model, name, "BYTES", [1, 1], lengths)
        missing = service_pb2.ModelInferRequest(model_name=model)
        yield "no inputs", missing
        twice = _request(model, name, "BYTES", [1, 1], good)
        twice.inputs.append(_Tensor(name=name, datatype="BYTES", shape=[1, 1]))
        twice.raw_input_contents.append(good)
        yield "a repeated input", twice
        unwanted = _request(model, name, "BYTES", [1, 1], good)
        unwanted.outputs.add(name=choose.choice(("nothing", "", "input_ids")))
        yield "unknown outputs", unwanted
        side = choose.choice((1, 7, 4096))
        pixels = _request("vision_encoder", "pixel_values", "UINT8", [1, 3, side, side], bytes(3 * side * side))
        yield "pixels of another size", pixels
        yield "token ids outside the vocabulary", _token_ids(choose)
        region = _request(model, name, "BYTES", [1, 1], good)
        del region.raw_input_contents[:]
        region.inputs[0].parameters["shared_memory_region"].string_param = choose.choice(("x", "", "../x"))
        region.inputs[0].parameters["shared_memory_byte_size"].int64_param = choose.choice((0, 8, -1, 1 << 62))
        yield "unregistered shared memory", region
        yield (
            "invalid UTF-8",
            _request("text_embedding", "text", "BYTES", [1, 1], _strings(choose.randbytes(9) + b"\xff")),
        )


def _token_ids(choose: random.Random) -> Any:
    """Return a request to the text encoder with random token ids and a random, empty or full attention mask."""
    rows, length = choose.choice(((1, 52), (1, 1), (3, 7), (1, 53), (2, 600), (32, 52)))
    numbers = np.random.default_rng(choose.randrange(1 << 32))
    ids, mask = numbers.integers(-(1 << 63), (1 << 63) - 1, (2, rows, length), dtype=np.int64)
    mask = choose.choice((mask, np.zeros_like(mask), np.ones_like(mask), mask % 2))
    message = _request("text_encoder", "input_ids", "INT64", [rows, length], ids.tobytes())
    message.inputs.append(_Tensor(name="attention_mask", datatype="INT64", shape=list(mask.shape)))
    message.raw_input_contents.append(mask.tobytes())
    return message


def attack_with_requests(
    server: EmbeddedServer, *, times: int, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Send malformed gRPC requests, which must be refused, and good requests between them.

    Args:
        server: the running server.
        times: the number of malformed requests.
        seed: the seed of the requests.
        say: a function that is called with each line of progress; by default, no progress is reported.

    Returns:
        A row for each kind of malformed request.
    """
    counts: dict[str, Counter[str]] = {}
    wrong: dict[str, list[str]] = {}
    with grpc.insecure_channel(server.grpc_url) as channel, Client(server.grpc_url, timeout=20) as clip:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        expected = clip.embed_texts(["一只猫"])
        for number, (what, request) in zip(range(times), _requests(random.Random(seed)), strict=False):
            try:
                answer = stub.ModelInfer(request, timeout=20)
                code = _answer(answer, expected)
            except grpc.RpcError as error:
                code = error.code().name
            counts.setdefault(what, Counter())[code] += 1
            if code not in _REFUSALS and (what, code) not in _HARMLESS:
                wrong.setdefault(what, []).append(f"{code}: {str(request)[:200]!r}")
            if number % 50 == 0:
                if abs(clip.embed_texts(["一只猫"]) - expected).max() > 1e-5:
                    wrong.setdefault(what, []).append("a good request after it got a wrong vector")
                say(f"requests: {number:,} of {times:,}")
    return [
        Outcome(
            f"requests: {what}",
            sum(codes.values()),
            ", ".join(f"{count:,} {code}" for code, count in codes.most_common()),
            wrong.get(what, []),
        )
        for what, codes in counts.items()
    ]


def attack_ports(
    server: EmbeddedServer, *, times: int, connections: int, seed: int = 0, say: Callable[[str], None] = lambda _: None
) -> list[Outcome]:
    """Attack the gRPC port and the HTTP port, and check that good requests are answered meanwhile.

    The attacks are random bytes, idle connections, connections that send one byte, and malformed HTTP requests.

    Args:
        server: the running server.
        times: the number of connections with random bytes to each port, and the number of malformed HTTP requests.
        connections: the number of idle connections that are open to each port at once.
        seed: the seed of the random bytes and requests.
        say: a function that is called with each line of progress; by default, no progress is reported.

    Returns:
        Two rows for each port, and a row for the malformed HTTP requests.
    """
    choose = random.Random(seed)
    outcomes = []
    grpc_port, http_port = (_port(url) for url in (server.grpc_url, server.http_url))
    with Client(server.grpc_url, timeout=20) as clip:
        expected = clip.embed_texts(["一只猫"])

        def well() -> list[str]:
            off = abs(clip.embed_texts(["一只猫"]) - expected).max()
            return ["a good request got a wrong vector"] if off > 1e-5 else []

        for name, port in (("gRPC", grpc_port), ("HTTP", http_port)):
            wrong = []
            for number in range(times):
                _throw(port, _noise(choose))
                if number % 20 == 0:
                    wrong += well()
            outcomes.append(Outcome(f"random bytes on the {name} port", times, "good requests answered", wrong))
            say(f"random bytes on the {name} port: {times}")
        for name, port in (("gRPC", grpc_port), ("HTTP", http_port)):
            with contextlib.ExitStack() as stack:
                opened = [stack.enter_context(_connected(port)) for _ in range(connections)]
                wrong = well()
                for slow in opened[:: max(1, connections // 100)]:
                    with contextlib.suppress(OSError):
                        slow.sendall(b"P")  # the first byte of POST and of the HTTP/2 preface
                time.sleep(1)
                wrong += well()
            wrong += well()
            outcomes.append(
                Outcome(f"idle and slow connections to the {name} port", connections, "good requests answered", wrong)
            )
            say(f"idle connections to the {name} port: {connections}")
        codes: Counter[str] = Counter()
        wrong = []
        for number in range(times):
            path, body = _http_request(choose)
            code = _http(f"{server.http_url}/{path}", body)
            codes[code] += 1
            if code not in _HTTP_REFUSALS:
                wrong.append(f"{code}: {path} {body[:80]!r}")
            if number % 50 == 0:
                wrong += well()
        said = ", ".join(f"{count:,} {code}" for code, count in codes.most_common())
        outcomes.append(Outcome("malformed requests over HTTP", times, said, wrong))
    return outcomes


def _answer(answer: Any, expected: NDArray[np.float32]) -> str:
    """Return a description of a response's vectors: the expected vector, unit vectors, or nonsense."""
    found = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    vectors = np.frombuffer(found["embedding"], "<f4").reshape(-1, expected.shape[1])
    if vectors.shape == expected.shape and np.abs(vectors - expected).max() < 1e-5:
        return "the expected vector"
    return "unit vectors" if np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4) else "nonsense"


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _throw(port: int, data: bytes) -> None:
    with contextlib.suppress(OSError), _connected(port) as connection:
        connection.settimeout(0.2)
        connection.sendall(data)
        connection.recv(1000)


def _noise(choose: random.Random) -> bytes:
    """Return random bytes, some of which follow the start of an HTTP, HTTP/2 or TLS message."""
    frame = struct.pack(">I", choose.randrange(1 << 24))[1:] + choose.randbytes(6)
    head = choose.choice(
        (
            b"",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" + frame,
            b"GET / HTTP/1.1\r\nHost: " + b"a" * choose.choice((1, 70_000)) + b"\r\n",
            b"POST /v2/models/text_embedding/infer HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"POST /v2/models/text_embedding/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",  # the start of a TLS handshake
        )
    )
    return head + choose.randbytes(choose.choice((0, 10, 1000, 20_000)))


def _http_request(choose: random.Random) -> tuple[str, bytes]:
    infer = f"v2/models/{choose.choice(('text_embedding', 'image_embedding'))}/infer"
    tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["猫"]}
    broken = choose.choice(
        (
            {"name": "nothing"},
            {"datatype": "FP32"},
            {"shape": [-1, -1]},
            {"shape": "1,1"},
            {"data": [1, None, {}]},
            {"data": [[["猫"]], [["狗"]]]},
            {"data": None},
            {"parameters": {"binary_data_size": choose.choice((-1, 1 << 40, "x"))}},
        )
    )
    body = choose.choice(
        (
            json.dumps({"inputs": [{**tensor, **broken}]}).encode(),
            json.dumps({"inputs": choose.choice(({}, None, [], "x", 1))}).encode(),
            b"[" * 3_000 + b"]" * 3_000,
            choose.randbytes(100),
            b'{"inputs": [',
        )
    )
    return choose.choice((infer, infer, infer, "v2/models/%00/infer", "v2/../../etc/passwd", f"v2/{'a' * 5000}")), body


def _http(url: str, body: bytes) -> str:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=20) as response:
            return str(response.status)
    except urllib.error.HTTPError as error:
        return str(error.code)
    except OSError:
        return "closed"
