"""`python -m pot_lab.cli` is `pot-lab`."""

import sys

from pot_lab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
