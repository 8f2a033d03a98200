"""The files of a repository, made from a checkpoint: encoders in TorchScript, configs, assets and the fingerprint."""

__all__: list[str] = []
