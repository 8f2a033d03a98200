"""The file that Locust runs: ``locust -f loadtest/locustfile.py --host localhost:8001``."""

from tuwen_loadtest.locustfile import (
    BulkEmbedding,
    BulkIndexing,
    ImageEmbedding,
    Shape,
    Similarity,
    TextSearch,
    Visitor,
)

__all__ = ["BulkEmbedding", "BulkIndexing", "ImageEmbedding", "Shape", "Similarity", "TextSearch", "Visitor"]
