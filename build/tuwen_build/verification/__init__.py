"""The comparison of a built repository with the reference: images, texts and int8 kernels."""

__all__: list[str] = []
