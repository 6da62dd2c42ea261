"""`python -m tser_lightning`."""

import sys

from tser_lightning.cli.import_path import search_working_folder_last

if __name__ == "__main__":
    search_working_folder_last()
    from tser_lightning.cli.main import main

    sys.exit(main())
