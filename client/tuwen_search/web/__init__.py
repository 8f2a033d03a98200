"""A web page on which people search the pictures of a collection.

The page is read-only and loads nothing from other hosts. It shows pictures in full size only if they lie in folders
that the operator names. Needs the extra ``web``.
"""

from tuwen_search.web._serve import WebOptions, serve

__all__ = ["WebOptions", "serve"]
