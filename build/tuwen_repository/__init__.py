"""The format of a built repository, which the build writes and the server reads: configs, manifest and checksums.

``samples`` holds the photographs and texts that verifications and measurements use.
"""

__all__: list[str] = []
