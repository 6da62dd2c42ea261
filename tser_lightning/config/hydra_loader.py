"""Where configs lie and how they are composed."""

import contextlib
import copy
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hydra.version
import yaml
from hydra.core.config_search_path import ConfigSearchPath, SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.core.utils import setup_globals
from hydra.errors import ConfigCompositionException, HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tser_lightning.config.found_files import check_found, check_package
from tser_lightning.config.hydra_internal import (
    ConfigLoaderImpl,
    ConfigSearchPathImpl,
    FileConfigSource,
    Hydra,
    create_config_search_path,
)
from tser_lightning.errors import UsageError
from tser_lightning.registry import architectures
from tser_lightning.registry.places import folder

PRIMARY = "train"
GROUP = "experiment"
PUBLISHED = "paper"  # experiments/paper.yaml holds the published numbers; it is no experiment


class Groups(FileConfigSource):
    """The folder of `--config-dir`: config groups of the user's own, or of whoever sent them."""

    @staticmethod
    def scheme() -> str:
        """Name this kind of source in a search path."""
        return "groups"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load an option's file after `check_found`."""
        return _looked_at(self, config_path, config_path.strip("/").rpartition("/")[0])


def _looked_at(source: FileConfigSource, config_path: str, group: str) -> ConfigResult:
    """Load a file as Hydra does; one that is not the package's own is checked by `check_found` first."""
    file = Path(source.path, source._normalize_file_name(config_path))
    found = not any(file.resolve().is_relative_to(folder(own).resolve()) for own in ("conf", "experiments"))
    if found and file.is_file():
        check_found(file, group)
    result = FileConfigSource.load_config(source, config_path)
    if found:
        check_package(file, result.header.get("package"))
    return result


class Experiments(FileConfigSource):
    """A plain folder of files served as the config group `experiment`."""

    @staticmethod
    def scheme() -> str:
        """Name this kind of source in a search path."""
        return "experiments"

    def _inside(self, config_path: str) -> str:
        return config_path.strip("/").removeprefix(GROUP).lstrip("/")

    def load_config(self, config_path: str) -> ConfigResult:
        """Load `experiment/NAME`; its settings act on the whole config, also where the header is forgotten."""
        result = _looked_at(self, self._inside(config_path), "")
        result.header["package"] = result.header.get("package") or "_global_"
        return result

    def is_group(self, config_path: str) -> bool:
        """Tell whether this is the group itself, or the root that holds it."""
        return config_path.strip("/") in ("", GROUP) and super().is_group("")

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such an experiment."""
        name = self._inside(config_path)
        return config_path.startswith(f"{GROUP}/") and name != PUBLISHED and super().is_config(name)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the experiments, or the group at the root."""
        if config_path.strip("/") == "":
            return [] if results_filter == ObjectType.CONFIG else [GROUP]
        names = {path.stem for path in Path(self.path).glob("*.yaml")} - {PUBLISHED}
        return [] if results_filter == ObjectType.GROUP else sorted(names)


class Architectures(ConfigSource):
    """The files of conf/architecture, served as the groups `student` and `teacher`."""

    @staticmethod
    def scheme() -> str:
        """Name this kind of source in a search path."""
        return "architectures"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load `student/NAME` or `teacher/NAME`."""
        role, _, option = config_path.strip("/").removesuffix(".yaml").partition("/")
        return ConfigResult(
            config=OmegaConf.create(architectures.settings(Path(self.path), role, option)),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": None},
        )

    def available(self) -> bool:
        """Tell whether the folder is there."""
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        """Tell whether this is one of the two groups, or the root that holds them."""
        return config_path.strip("/") in ("", *architectures.ROLES)

    def is_config(self, config_path: str) -> bool:
        """Tell whether there is such an architecture."""
        role, _, option = config_path.strip("/").removesuffix(".yaml").partition("/")
        return role in architectures.ROLES and option in architectures.options(Path(self.path), role)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """List the options of a group, or the groups at the root."""
        role = config_path.strip("/")
        if role == "":
            return [] if results_filter == ObjectType.CONFIG else list(architectures.ROLES)
        return [] if results_filter == ObjectType.GROUP else sorted(architectures.options(Path(self.path), role))


class ExperimentChoices(Experiments):
    """The same folder without the settings: only the options that an experiment chooses."""

    @staticmethod
    def scheme() -> str:
        """Name this kind of source in a search path."""
        return "experiment-choices"

    def load_config(self, config_path: str) -> ConfigResult:
        """Load the defaults list of an experiment alone."""
        result = super().load_config(config_path)
        assert isinstance(result.config, DictConfig)
        result.config = OmegaConf.create({key: result.config[key] for key in ("defaults",) if key in result.config})
        return result


class ExperimentSearchPath(SearchPathPlugin):
    """Put the experiments into the search path, those of the user's folder first."""

    source: type[Experiments] = Experiments

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add ./experiments, if there is one, and the package's."""
        for place in dict.fromkeys((Path.cwd() / "experiments", folder("experiments"))):
            if place.is_dir():
                search_path.append("experiments", f"{self.source.scheme()}://{place}")


def _prepare_hydra() -> None:
    hydra.version.setbase("1.3")
    setup_globals()
    with _installed_alone():
        plugins = Plugins.instance()
    for source in (Groups, Architectures, Experiments, ExperimentChoices):
        plugins.register(source)


@contextlib.contextmanager
def _installed_alone() -> Iterator[None]:
    """Hide the folder that we work in from imports: Hydra imports whatever is called hydra_plugins."""
    before = list(sys.path)
    here = os.path.realpath(os.getcwd())
    sys.path[:] = [place for place in before if os.path.realpath(place or ".") != here]
    try:
        yield
    finally:
        sys.path[:] = before


class Configs:
    """All config files that a command can choose from.

    Args:
        config_dir: A folder of the user's own config groups, searched before the package's.

    Raises:
        UsageError: `config_dir` is not a folder.
    """

    def __init__(self, config_dir: str | None = None) -> None:
        _prepare_hydra()
        if config_dir is not None and not os.path.isdir(config_dir):
            raise UsageError(
                what=f"--config-dir {config_dir}: there is no such folder",
                why="it is where config groups of your own are looked for, e.g. conf/loss/mine.yaml",
                fix="--config-dir conf",
            )
        self.config_dir = config_dir
        self._loaders = {whole: ConfigLoaderImpl(self.search_path(whole)) for whole in (True, False)}
        self.architectures = folder("conf") / architectures.FOLDER
        self._roots = sorted(set(self._loaders[True].list_groups("")) - {architectures.FOLDER})
        self._options: dict[str, list[str]] = {}
        self._composed: dict[tuple[bool, bool, tuple[str, ...]], Composition] = {}

    def search_path(self, whole: bool = True) -> ConfigSearchPathImpl:
        """Give Hydra's search path; with `whole=False` experiments give their choices without their settings."""
        path = create_config_search_path(str(folder("conf")))
        assert isinstance(path, ConfigSearchPathImpl)
        schema = path.config_search_path.pop()
        plugin = ExperimentSearchPath()
        plugin.source = Experiments if whole else ExperimentChoices
        plugin.manipulate_search_path(path)
        path.append("architectures", f"{Architectures.scheme()}://{folder('conf') / architectures.FOLDER}")
        path.config_search_path.append(schema)
        if self.config_dir is not None:
            own = f"{Groups.scheme()}://{os.path.abspath(self.config_dir)}"
            path.prepend("command-line", own, anchor=SearchPathQuery(provider="main"))
        return path

    def groups(self) -> list[str]:
        """List the config groups, e.g. ["callbacks", "data", ...]."""
        return [group for group in self._roots if group != "hydra"]

    def options(self, group: str) -> list[str]:
        """List the options of a group, e.g. ["ce", "tser", ...]; empty if there is no such group."""
        if group.partition("/")[0] not in self._roots:
            return []  # Hydra would look for any name on the disk, however odd
        if group not in self._options:
            self._options[group] = sorted(self._loaders[True].get_group_options(group, ObjectType.CONFIG))
        return list(self._options[group])

    def file(self, group: str, option: str) -> Path | None:
        """Find the file of an option; None if it lies nowhere on this disk. The group "" is the root of conf."""
        for place in self._loaders[True].get_sources():
            inside = "" if place.scheme() == Experiments.scheme() else group
            if place.scheme() in ("file", Groups.scheme(), Experiments.scheme()) and os.path.isfile(
                found := Path(place.path, inside, f"{option}.yaml")
            ):
                return found
            if place.scheme() == Architectures.scheme() and place.is_config(f"{group}/{option}"):
                return Path(place.path, f"{architectures.options(self.architectures, group)[option][0]}.yaml")
        return None

    def misnamed(self, group: str, option: str) -> str | None:
        """Find the file of an option that there would be if its name ended in .yaml in place of .yml."""
        for place in self._loaders[True].get_sources():
            inside = "" if place.scheme() == Experiments.scheme() else group
            if place.scheme() in (Groups.scheme(), Experiments.scheme()) and (
                place.scheme() == Groups.scheme() or group == GROUP
            ):
                found = Path(place.path, inside, f"{option}.yml")
                if os.path.isfile(found):  # of a name too long for a file as well
                    return os.path.relpath(found)
        return None

    def text(self, group: str, option: str) -> str:
        """Read the file of an option as it is written; empty if there is none."""
        path = self.file(group, option)
        if path and path.parent == self.architectures:
            return architectures.text(self.architectures, group, option)
        return path.read_text(encoding="utf-8") if path else ""

    def values(self, group: str, option: str) -> dict[str, Any]:
        """Give what an option sets, e.g. {"task": "report", "runs": ...}; {} if its file is no mapping."""
        path = self.file(group, option)
        if path and path.parent == self.architectures:
            return architectures.settings(self.architectures, group, option)
        try:
            found = yaml.safe_load(self.text(group, option))
        except yaml.YAMLError:  # whoever chooses the option is told
            return {}
        return found if isinstance(found, dict) else {}

    def compose(self, choices: Sequence[str] = (), *, whole: bool = True, sweep: bool = False) -> "Composition":
        """Compose the config of some choices; it is remembered, since the jobs of a sweep ask for the same again.

        Args:
            choices: Overrides of config groups, e.g. ["loss=ce", "experiment=digits"], and of Hydra's own settings.
            whole: Whether an experiment's settings come with its choices.
            sweep: Whether this is for Hydra's sweeper.

        Returns:
            A copy for the caller if `whole`; choices without settings are shared, to be read alone.

        Raises:
            HydraException: They do not go together.
            yaml.YAMLError: A file that is no YAML.
        """
        key = (whole, sweep, tuple(choices))
        if key not in self._composed:
            mode = RunMode.MULTIRUN if sweep else RunMode.RUN
            self._composed[key] = _composition(self._loaders[whole], list(choices), mode)
        found = self._composed[key]
        return Composition(copy.deepcopy(found.config), dict(found.choices), found.hydra) if whole else found


class Composition(NamedTuple):
    """The composed config of some choices.

    Attributes:
        config: All settings, open for changes, interpolations as they are.
        choices: The option of every group, e.g. {"loss": "tser", "optim@teacher.training.optim": "sgd"}.
        hydra: Hydra's own settings.
    """

    config: DictConfig
    choices: dict[str, str]
    hydra: DictConfig


def _composition(loader: ConfigLoaderImpl, choices: list[str], mode: RunMode) -> Composition:
    try:
        config = loader.load_configuration(PRIMARY, choices, mode)
        OmegaConf.set_struct(config, False)
        hydra_node = config.hydra
        del config["hydra"]
        return Composition(config, _options(hydra_node), hydra_node)
    except (HydraException, yaml.YAMLError, UsageError):
        raise
    except Exception as error:  # odd overrides make Hydra raise anything at all
        raise ConfigCompositionException(str(error)) from error


def _options(hydra_node: DictConfig) -> dict[str, str]:
    choices = {str(key): str(option) for key, option in hydra_node.runtime.choices.items()}
    return {key: choices[key] for key in sorted(choices) if not key.startswith("hydra/")}


def with_hydra(configs: Configs, work: Callable[[Hydra], Any]) -> Any:
    """Run a function of Hydra's with our search path.

    Raises:
        UsageError: What Hydra refuses.
    """
    GlobalHydra.instance().clear()
    try:
        return work(Hydra.create_main_hydra2("tser", configs.search_path()))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        said = " ".join(str(error).split())[:240]
        raise UsageError("Hydra refuses this command", said, "--help, or --info searchpath") from error
    finally:
        GlobalHydra.instance().clear()
