"""Work with a model: data sets, training, evaluation and the demo."""

__all__: list[str] = []
