"""The format of a built repository, which the build writes and the server reads: configs, manifest and checksums.

``samples`` holds the photographs and texts that try a repository, in a build's verification and in measurements.
"""

__all__: list[str] = []
