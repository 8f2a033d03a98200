"""The users that Locust finds here: visitors, who send all kinds of requests, or the users that are named.

``locust -f ... TextSearch BulkIndexing`` measures searches beside indexing.
"""

from tuwen_loadtest.listeners import attach
from tuwen_loadtest.shapes import Shape
from tuwen_loadtest.users import BulkEmbedding, BulkIndexing, ImageEmbedding, Similarity, TextSearch, Visitor

__all__ = ["BulkEmbedding", "BulkIndexing", "ImageEmbedding", "Shape", "Similarity", "TextSearch", "Visitor"]

attach()
