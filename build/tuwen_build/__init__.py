"""Turn a checkpoint into a verified Triton model repository (extra ``build``).

Data flows through the subpackages in this order. ``checkpoints`` reads, ``towers`` holds the networks, ``export``
writes the files of a repository, ``verification`` compares them with the reference. ``repository`` runs all four::

    from tuwen_build.repository import BuildOptions, build_repository
"""

__all__: list[str] = []
