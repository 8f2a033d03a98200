"""The interfaces that the edge speaks: one module for each, thin, over the same core."""

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
"""Every path of the edge, apart from ``/metrics`` and ``/openapi.json``, which need the running edge itself."""
