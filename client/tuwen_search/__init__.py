"""Search for pictures by words, by pictures, or by both, with embeddings in a Milvus collection.

::

    from tuwen import Client
    from tuwen_search import Collection, Query

    with Client() as clip, Collection.open("holidays", clip) as pictures:
        pictures.add("/data/photos")
        for hit in pictures.search(Query("海边的日落", without=["人"])).hits:
            print(hit.score, hit.picture.name)

The package needs the extra ``search``. Its modules, in the order in which data flows: `sources` finds pictures,
`records` describes each picture, `indexing` decides which pictures are new, and `store` stores them. `query` describes
a search. `collection` and `async_collection` combine these modules. `maintenance` moves and forgets sources,
`migration` embeds a collection with another model, and `contact_sheet` draws the results of a search.
"""

from tuwen_search.async_collection import AsyncCollection
from tuwen_search.collection import Collection
from tuwen_search.errors import CollectionNotFoundError, QueryError, SearchError, StoreError
from tuwen_search.facets import Facet
from tuwen_search.indexing import Report
from tuwen_search.query import Hit, Query, Results
from tuwen_search.records import Picture
from tuwen_search.store import IndexType, default_store

__all__ = [
    "AsyncCollection",
    "Collection",
    "CollectionNotFoundError",
    "Facet",
    "Hit",
    "IndexType",
    "Picture",
    "Query",
    "QueryError",
    "Report",
    "Results",
    "SearchError",
    "StoreError",
    "default_store",
]
