"""Writing the files of a repository: encoders in TorchScript, configs, assets and the fingerprint."""

__all__: list[str] = []
