"""What can go wrong with a collection: a branch of the tree in ``tuwen._errors``.

::

    TuwenError
    ├── EmbeddingSpaceError          (of tuwen) the collection's vectors are of another model than the server's
    └── SearchError
        ├── CollectionNotFoundError  there is none of this name
        ├── QueryError (ValueError)  nothing is looked for, a filter that cannot be read, a page too far
        ├── SourceError              a folder, list, table or archive cannot be read
        └── StoreError *             the vector store does not answer, is in use by another process, or failed
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = ["CollectionNotFoundError", "QueryError", "SearchError", "SourceError", "StoreError"]


class SearchError(TuwenError):
    """Something about a collection."""


class CollectionNotFoundError(SearchError):
    """There is no collection of this name in the store."""


class QueryError(SearchError, ValueError):
    """What is looked for makes no sense."""


class SourceError(SearchError):
    """Pictures cannot be read from where they should be."""


class StoreError(SearchError):
    """The vector store failed; it may be well again later."""

    retryable = True
