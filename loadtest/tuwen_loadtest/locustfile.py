"""The classes of users that Locust can run. Without names on its command line, Locust runs `Visitor`.

``locust -f ... TextSearch BulkIndexing`` measures searches while another user indexes pictures.
"""

from tuwen_loadtest.listeners import attach
from tuwen_loadtest.shapes import Shape
from tuwen_loadtest.users import BulkEmbedding, BulkIndexing, ImageEmbedding, Similarity, TextSearch, Visitor

__all__ = ["BulkEmbedding", "BulkIndexing", "ImageEmbedding", "Shape", "Similarity", "TextSearch", "Visitor"]

attach()
