"""Where Python looks for modules: what is installed comes before what lies in the folder that we work in.

Imports nothing that is not built in, since it runs before a `yaml.py` of that folder is out of the way.
"""

import os
import sys


def search_working_folder_last() -> None:
    """Move the working folder to the end of the search path, as `python -m` has it first and a script not at all."""
    here = os.getcwd()
    sys.path[:] = [place for place in sys.path if place not in ("", here)] + [here]
