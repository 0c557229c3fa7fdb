"""`python -m fuzz` is `pmdfuzz`."""

import sys

from fuzz.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
