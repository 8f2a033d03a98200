"""Embedding models for LangChain, LlamaIndex and Haystack. They use the Python client.

Import the module of your framework: `tuwen_integrations.langchain`, `tuwen_integrations.llama_index` or
`tuwen_integrations.haystack`. Each module needs an extra: ``langchain``, ``llama-index`` or ``haystack``.
"""

__all__: list[str] = []
