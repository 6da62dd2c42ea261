"""From a command to a checked, resolved, plain description of a run. Imports no torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tser_lightning.config.check import missing_settings, unimportable_targets
from tser_lightning.config.check_files import check_files
from tser_lightning.config.composed import Composed
from tser_lightning.config.defaults import leaves
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.usage_errors import as_typed, refuse
from tser_lightning.errors import UsageError
from tser_lightning.records.identity import identity, matters, run_name
from tser_lightning.registry.trust import untrusted_targets


@dataclass(frozen=True)
class Run:
    """A checked command: its resolved config, its name, its directory.

    Attributes:
        config: The whole config, resolved, in plain containers.
        choices: The option of every group: {"experiment": "digits", "loss": "tser", ...}.
        overrides: The command's overrides as given.
        given: The settings that the command gives, by dotted name, whether or not they differ from the default.
        changed: The settings that differ from their option's own file or from the experiment, by dotted name.
        differences: Sorted overrides that make this run out of its experiment; the loss is always among them.
        notes: What had to be left out, to be said aloud.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str] = field(default_factory=list)
    given: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the run directory: the same for everything that gives the same result."""
        return run_name(self.choices["experiment"], self.differences, identity(self.config))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that describe the run in result.json, run.json and sweep.json: choices and overrides."""
        named = ("experiment", "loss", "student", "teacher", "neuron", "norm", "data")
        return {
            **{key: self.choices[key] for key in named},
            **({} if self.config["debug"]["steps"] is None else {"debug": self.choices["debug"]}),
            **{key: value for key, value in self.given.items() if matters(key)},
            **self.changed,
            "seed": self.config["seed"],
            "selection": self.config["selection"],
        }

    @property
    def home(self) -> Path:
        """Its run directory; one of the same identity that an earlier version has named otherwise is taken."""
        runs = Path(self.config["machine"]["runs_dir"])
        if not (runs / self.name).is_dir():
            for other in sorted(runs.glob(run_name(self.choices["experiment"], (), f"*-{identity(self.config)}"))):
                return other
        return runs / self.name


def compose_run(
    overrides: Sequence[str] = (),
    *,
    settings: Mapping[str, Any] | None = None,
    check_data: bool = True,
    configs: Configs | None = None,
) -> Run:
    """Compose and check a run.

    Args:
        overrides: As on the command line, e.g. ["experiment=digits", "loss=ce", "seed=2"].
        settings: More settings by dotted name, as Python values.
        check_data: Whether files (data, weights, a finished run) have to be there and every `???` has to be set.
        configs: The config files to choose from; the package's and ./experiments by default.

    Raises:
        UsageErrors: All that is wrong.
    """
    composed = Composed(overrides, configs or Configs(), settings)
    mistakes = list(composed.mistakes)
    if check_data:
        mistakes += missing_settings(composed.unresolved(), composed.defaults)
        mistakes += unimportable_targets(composed.config)
        mistakes += untrusted_targets(
            composed.config, {key: setting.value for key, setting in composed.command.settings.items()}
        )
        mistakes += check_files(composed.config, composed.choices, composed.spoiled)
        mistakes += _not_for_this_task(composed)
        mistakes += _not_to_prune(composed)
    refuse(mistakes)
    return _described(composed, list(overrides))


# What the config of a finished run does not settle.
FOR_EVALUATION = ("task", "run", "experiment", "student.timesteps", "data.root", "data.path", "measure", "force")


def _not_for_this_task(composed: Composed) -> list[UsageError]:
    """Refuse settings that `task=evaluate` ignores, since it takes the config of the run."""
    if composed.config["task"] != "evaluate" or composed.config.get("run") is None:
        return []
    given = (key for key in (*composed.command.choices, *composed.command.settings) if matters(key))
    return [
        UsageError(
            what=f"task=evaluate does not look at {key}",
            why=f"it measures a finished run as that was configured, but for {', '.join(FOR_EVALUATION[3:])}",
            fix="the command without it",
        )
        for key in given
        if key.partition(".")[0] not in FOR_EVALUATION and key not in FOR_EVALUATION
    ]


def _not_to_prune(composed: Composed) -> list[UsageError]:
    """Refuse a pruning rule where no accuracy on validation images is measured."""
    config, rule = composed.config, f"prune={composed.choices['prune']}"
    if not config["prune"].get("_target_"):
        return []
    if config["task"] != "distill":
        what, fix = f"{rule} does nothing to task={config['task']}", "prune=none"
    elif config["selection"] != "val":
        what, fix = f"{rule} has nothing to go by with selection={config['selection']}", "selection=val, or prune=none"
    elif config["data"].get("validation") == 0:
        what, fix = f"{rule} has nothing to go by with data.validation=0", "data.validation=0.1, or prune=none"
    else:
        return []
    return [
        UsageError(what, "it ends students early by their accuracy on validation images, never on the test split", fix)
    ]


def _described(composed: Composed, overrides: list[str]) -> Run:
    derived = set(composed.derived())
    values = {
        key: value
        for key, value in leaves(composed.config)
        if matters(key) and key not in derived and not key.endswith("_target_")
    }
    files, experiment = dict(leaves(composed.defaults.config)), dict(leaves(composed.experiment))
    changed = {key: value for key, value in values.items() if not files.get(key) == value == experiment.get(key)}
    own = (f"{key}={as_typed(value)}" for key, value in changed.items() if experiment.get(key) != value)
    given = dict(leaves(composed.config))
    return Run(
        config=composed.config,
        choices=_named(composed),
        overrides=overrides,
        given={key: given[key] for key in composed.command.settings if key in given},
        changed=changed,
        differences=sorted([*_other_choices(composed), *own]),
        notes=composed.notes,
    )


def _named(composed: Composed) -> dict[str, str]:
    """Give the chosen option of every group; a class of the user's own by its name, not "custom"."""
    targets = {
        group: composed.config[group]["_target_"]
        for group, option in composed.choices.items()
        if option == "custom" and "." in str(composed.config[group].get("_target_"))
    }
    return {**composed.choices, **{group: target.rpartition(".")[2] for group, target in targets.items()}}


def _other_choices(composed: Composed) -> Iterable[str]:
    bare = composed.bare_experiment()
    base = bare.choices if bare else {}
    for key, option in _named(composed).items():
        if key == "augment" and key not in composed.command.choices:
            continue  # the data set's own
        if key == "loss" or (key != "experiment" and matters(key) and base.get(key) != option):
            yield f"{key}={option}"
