"""The users that Locust finds here; name some to run those alone.

By weight three picture embeddings to six searches to one similarity. ``BulkIndexing`` runs beside others when it is
named: ``locust -f ... TextSearch BulkIndexing``.
"""

from tuwen_loadtest.listeners import attach
from tuwen_loadtest.shapes import Shape
from tuwen_loadtest.users import BulkIndexing, ImageEmbedding, Similarity, TextSearch

__all__ = ["BulkIndexing", "ImageEmbedding", "Shape", "Similarity", "TextSearch"]

attach()
