"""Fake servers of Elasticsearch, OpenSearch and Weaviate, because the databases themselves cannot run in a test.

The servers store vectors in memory, and refuse request fields that the database does not know. The known fields come
from the documentation of Elasticsearch 9 and OpenSearch 3, and from the messages in Weaviate's client.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

__all__ = ["search_engine", "weaviate"]

_DENSE_VECTOR = {"type", "dims", "similarity", "index", "index_options", "element_type"}
_KNN_VECTOR = {"type", "dimension", "method", "space_type", "data_type", "mode", "compression_level"}
_METHOD = {"name", "engine", "space_type", "parameters"}
_ELASTIC_KNN = {"field", "query_vector", "k", "num_candidates", "filter", "similarity", "boost", "rescore_vector"}
_OPEN_KNN = {"vector", "k", "filter", "method_parameters", "min_score", "max_distance", "rescore"}


class RefusedError(Exception):
    """The request is invalid; the fake server answers with status 400, as the database would."""


def allow(found: Mapping[str, Any], allowed: set[str], required: set[str]) -> None:
    """Raise a `RefusedError` if a request has unknown fields or lacks required fields."""
    if set(found) - allowed or required - set(found):
        raise RefusedError(
            f"unknown fields: {sorted(set(found) - allowed)}, missing fields: {sorted(required - set(found))}"
        )


class SearchEngine:
    """An in-memory index with cosine similarity, as in Elasticsearch or OpenSearch."""

    def __init__(self, *, elastic: bool) -> None:
        self.elastic = elastic
        self.dimension = 0
        self.documents: dict[str, dict[str, Any]] = {}

    def answer(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """Return the body of the response to an HTTP request."""
        path = path.partition("?")[0]
        if path.endswith("/_bulk"):
            return self.bulk([json.loads(line) for line in body.splitlines()])
        if path.endswith("/_search"):
            return self.search(json.loads(body))
        if path.endswith("/_refresh"):
            return {"_shards": {"total": 1, "successful": 1, "failed": 0}}
        if method == "PUT":
            self.create(json.loads(body))
            return {"acknowledged": True, "shards_acknowledged": True, "index": path[1:]}
        number, distribution = ("9.5.1", {}) if self.elastic else ("3.9.0", {"distribution": "opensearch"})
        return {"name": "stand-in", "version": {"number": number, **distribution}, "tagline": ""}

    def create(self, body: Mapping[str, Any]) -> None:
        """Check the mapping of a new index, and remember the dimension of its vectors."""
        allow(body, {"mappings", "settings", "aliases"}, {"mappings"})
        allow(body["mappings"], {"_meta", "properties", "dynamic"}, {"properties"})
        vector = body["mappings"]["properties"]["vector"]
        if self.elastic:
            allow(vector, _DENSE_VECTOR, {"type", "dims"})
            assert (vector["type"], vector["similarity"]) == ("dense_vector", "cosine")
            self.dimension = vector["dims"]
        else:
            allow(vector, _KNN_VECTOR, {"type", "dimension"})
            allow(vector["method"], _METHOD, {"name"})
            assert (vector["type"], vector["method"]["space_type"]) == ("knn_vector", "cosinesimil")
            assert body["settings"]["index"]["knn"] is True
            self.dimension = vector["dimension"]

    def bulk(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        """Store the documents of a bulk request, whose lines alternate between actions and documents."""
        items = []
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            [(operation, target)] = action.items()
            allow(target, {"_index", "_id"}, {"_index", "_id"})
            if len(document["vector"]) != self.dimension:
                raise RefusedError(f"expected a vector of {self.dimension} numbers, got {len(document['vector'])}")
            self.documents[target["_id"]] = document
            items.append({operation: {**target, "status": 201, "result": "created"}})
        return {"took": 1, "errors": False, "items": items}

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the nearest documents. The score of a document is (1 + cosine) / 2."""
        if self.elastic:
            allow(body, {"knn", "size", "_source", "query"}, {"knn"})
            knn = body["knn"]
            allow(knn, _ELASTIC_KNN, {"field", "query_vector"})
            name, query = knn["field"], knn["query_vector"]
            if knn["k"] > knn["num_candidates"]:
                raise RefusedError(f"expected k to be at most num_candidates ({knn['num_candidates']}), got {knn['k']}")
        else:
            allow(body, {"size", "_source", "query"}, {"query"})
            allow(body["query"], {"knn"}, {"knn"})
            [(name, knn)] = body["query"]["knn"].items()
            allow(knn, _OPEN_KNN, {"vector"})
            query = knn["vector"]
        [(field, value)] = knn.get("filter", {}).get("term", {None: None}).items()
        scores = {
            identity: (1 + float(np.dot(np.float32(document[name]), np.float32(query)))) / 2
            for identity, document in self.documents.items()
            if field is None or document[field] == value
        }
        best = sorted(scores, key=lambda identity: -scores[identity])[: min(knn["k"], body.get("size", 10))]
        hits = [
            {
                "_index": "pictures",
                "_id": identity,
                "_score": scores[identity],
                "_source": {field: self.documents[identity][field] for field in body["_source"]},
            }
            for identity in best
        ]
        return {"took": 1, "timed_out": False, "hits": {"total": {"value": len(hits), "relation": "eq"}, "hits": hits}}


@contextmanager
def search_engine(*, elastic: bool) -> Iterator[str]:
    """Start a fake Elasticsearch or OpenSearch server, and provide the server's address as ``host:port``."""
    engine = SearchEngine(elastic=elastic)
    media_type = "application/vnd.elasticsearch+json;compatible-with=9" if elastic else "application/json"
    with _served(engine.answer, {"Content-Type": media_type, "X-Elastic-Product": "Elasticsearch"}) as port:
        yield f"localhost:{port}"


@contextmanager
def weaviate(edge: str) -> Iterator[tuple[int, int]]:
    """Start a fake Weaviate server with the module multi2vec-clip, and provide its HTTP port and its gRPC port.

    Args:
        edge: the URL of the HTTP edge. The fake server requests vectors from the edge as multi2vec-clip does.
    """
    import grpc
    from weaviate.proto.v1 import batch_pb2, properties_pb2, search_get_pb2, weaviate_pb2_grpc

    classes: dict[str, dict[str, Any]] = {}
    stored: list[tuple[str, str, np.ndarray]] = []

    def vectors(**items: list[str]) -> np.ndarray:
        body = json.dumps({"texts": [], "images": [], **items}).encode()
        request = Request(f"{edge}/vectorize", body, {"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        return np.float32([*found["textVectors"], *found["imageVectors"]])

    def answer(method: str, path: str, body: bytes) -> dict[str, Any]:
        if method == "POST" and path == "/v1/schema":
            made = json.loads(body)
            module = made["vectorConfig"]["default"]["vectorizer"]["multi2vec-clip"]
            types = {one["name"]: one["dataType"] for one in made["properties"]}
            assert [types[name] for name in module["imageFields"]] == [["blob"]]
            classes[made["class"]] = made
            return made
        if path.endswith("/openid-configuration"):
            raise FileNotFoundError  # 404: the server needs no login
        if path.startswith("/v1/schema/"):
            return classes[path.rpartition("/")[2]]
        return {"hostname": "http://[::]:8080", "modules": {"multi2vec-clip": {}}, "version": "1.34.0"}

    class Service(weaviate_pb2_grpc.WeaviateServicer):
        def BatchObjects(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name in the protocol
            for one in request.objects:
                fields = one.properties.non_ref_properties.fields
                [vector] = vectors(images=[fields["image"].string_value])
                stored.append((one.uuid, fields["name"].string_value, vector))
            return batch_pb2.BatchObjectsReply()

        def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
            assert request.collection in classes
            query = vectors(texts=list(request.near_text.query)) if request.HasField("near_text") else None
            [vector] = vectors(images=[request.near_image.image]) if query is None else query
            best = sorted(stored, key=lambda one: -float(one[2] @ vector))[: request.limit]
            results = []
            for uuid, name, _ in best:
                fields = {"name": properties_pb2.Value(text_value=name)}
                result = search_get_pb2.SearchResult()
                result.metadata.id = uuid
                result.properties.non_ref_props.CopyFrom(properties_pb2.Properties(fields=fields))
                results.append(result)
            return search_get_pb2.SearchReply(results=results)

    server = grpc.server(futures.ThreadPoolExecutor(4))
    weaviate_pb2_grpc.add_WeaviateServicer_to_server(Service(), server)
    health = grpc.unary_unary_rpc_method_handler(lambda *_: b"\x08\x01")  # the message with the status SERVING
    handlers = {"Check": health}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers),))
    grpc_port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        with _served(answer, {"Content-Type": "application/json"}) as port:
            yield port, grpc_port
    finally:
        server.stop(None)


@contextmanager
def _served(answer: Any, headers: Mapping[str, str]) -> Iterator[int]:
    """Serve a function over HTTP on a free port of localhost, and provide the port.

    Args:
        answer: a function that returns the response's JSON body for the method, the path and the body of a request.
        headers: the headers of every response.
    """

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            try:
                status, content = 200, answer(self.command, self.path, body)
            except FileNotFoundError:
                status, content = 404, {}
            except (RefusedError, AssertionError, KeyError) as error:
                status, content = 400, {"error": {"type": "refused", "reason": repr(error)}, "status": 400}
            text = json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815 - the names that the base class looks for

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
