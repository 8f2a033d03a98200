"""The entry point of ``python -m tuwen_cli``, for environments without the script ``tuwen``."""

from tuwen_cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
