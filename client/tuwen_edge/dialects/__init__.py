"""The HTTP APIs that the edge offers. Each API is a thin module over `tuwen_edge.core`."""

from tuwen_edge.dialects import cohere, health, jina, mt_photos, openai, similarity, triton, weaviate
from tuwen_edge.operations import Operation

__all__ = ["OPERATIONS"]

OPERATIONS: tuple[Operation, ...] = (
    *openai.OPERATIONS,
    *jina.OPERATIONS,
    *similarity.OPERATIONS,
    *cohere.OPERATIONS,
    *weaviate.OPERATIONS,
    *mt_photos.OPERATIONS,
    *triton.OPERATIONS,
    *health.OPERATIONS,
)
"""All paths of the edge, except ``/metrics`` and ``/openapi.json``, which depend on the running edge."""
