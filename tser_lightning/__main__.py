"""`python -m tser_lightning`."""

import sys

from tser_lightning.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
