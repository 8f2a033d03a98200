"""Entry point of ``python -m tuwen_lab.published``."""

import sys

from tuwen_lab.published import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
