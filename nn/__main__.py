"""`python -m nn` is the command line `agrad`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
