"""Lets ``python -m tuwen_cli`` run the command line where no script ``tuwen`` is installed."""

from tuwen_cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
