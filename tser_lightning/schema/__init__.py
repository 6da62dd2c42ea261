"""Every setting in its one home: what it is called, what it may be and what it means. Imports no torch.

Values lie in conf/; `--help GROUP=OPTION`, the reference in docs/ and every message about a wrong value are read from
here. The settings of a class are a `Settings` class that names its target; a new module of this folder is found by
itself.
"""
