"""What is used of Hydra beside its public interface; nothing else imports `hydra._internal`.

Hydra finds and loads config groups, lays out a sweep and runs its callbacks through these. They are the same in all of
Hydra 1.3, which pyproject.toml holds to.
"""

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path

__all__ = [
    "BasicSweeper",
    "Callbacks",
    "ConfigLoaderImpl",
    "ConfigSearchPathImpl",
    "FileConfigSource",
    "Hydra",
    "create_config_search_path",
]
