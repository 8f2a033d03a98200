"""The errors about collections, which belong to the tree of errors in ``tuwen._errors``.

::

    TuwenError
    ├── EmbeddingSpaceError          (in tuwen) the collection was made with another model than the server's
    └── SearchError
        ├── CollectionNotFoundError  the collection does not exist
        ├── MigrationError           a collection cannot be migrated to another model
        ├── QueryError (ValueError)  an empty query, an invalid filter, or a page beyond the limit
        ├── SourceError              a folder, list, table or archive cannot be read
        └── StoreError *             the vector store does not respond, is in use by another process, or failed
"""

from __future__ import annotations

from tuwen import TuwenError

__all__ = ["CollectionNotFoundError", "MigrationError", "QueryError", "SearchError", "SourceError", "StoreError"]


class SearchError(TuwenError):
    """The base class of errors about collections."""


class CollectionNotFoundError(SearchError):
    """The collection does not exist in the store."""


class MigrationError(SearchError):
    """The collection cannot be migrated to another model, or its new vectors did not pass the check."""


class QueryError(SearchError, ValueError):
    """The query is empty or invalid."""


class SourceError(SearchError):
    """A source of pictures cannot be read."""


class StoreError(SearchError):
    """The vector store failed. A retry can help."""

    retryable = True
