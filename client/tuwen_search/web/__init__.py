"""A web page on which people search the pictures of a collection.

It is read-only, works without any other host, and shows full-size pictures out of named folders alone. Needs the extra
``web``.
"""

from tuwen_search.web._serve import WebOptions, serve

__all__ = ["WebOptions", "serve"]
