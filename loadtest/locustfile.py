"""What ``locust -f loadtest/locustfile.py --host localhost:8001`` runs."""

from tuwen_loadtest.locustfile import BulkIndexing, ImageEmbedding, Shape, Similarity, TextSearch, Visitor

__all__ = ["BulkIndexing", "ImageEmbedding", "Shape", "Similarity", "TextSearch", "Visitor"]
