"""`python -m tser_lightning`."""

import sys

from tser_lightning.cli.own_folder import look_here_last

if __name__ == "__main__":
    look_here_last()
    from tser_lightning.cli.main import main

    sys.exit(main())
