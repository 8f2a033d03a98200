"""Data sets on disk: retrieval splits, folders of classes, and the emoji data set in ``emoji``."""

from tuwen_lab.datasets._splits import ClassFolder, ImagePlace, RetrievalSplit

__all__ = ["ClassFolder", "ImagePlace", "RetrievalSplit"]
