"""`python -m fastoptim`: the command line without an installed script."""

import sys

from fastoptim.cli import main

if __name__ == "__main__":
    sys.exit(main())
