"""A web page on which people search the pictures of a collection.

The page is read-only and loads nothing from other hosts. It shows a picture in full size only if the picture lies in a
folder that the operator names. The page needs the extra ``web``.
"""

from tuwen_search.web._serve import WebOptions, serve

__all__ = ["WebOptions", "serve"]
