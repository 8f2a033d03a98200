"""Turn a checkpoint into a verified Triton model repository (extra ``build``).

Data flows through the subpackages in this order: ``checkpoints`` reads a checkpoint, and ``towers`` holds its networks.
``export`` writes the files of a repository, and ``verification`` compares the files with the reference. The module
``repository`` runs all four steps::

    from tuwen_build.repository import BuildOptions, build_repository
"""

__all__: list[str] = []
