"""The model card of a student: README.md with the front matter that the Hugging Face Hub reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tser_lightning.measure.energy import ASSUMPTIONS
from tser_lightning.records.measures import measure

LIBRARY = "tser-lightning"
DATASETS = {  # the ids that the Hub has for sets of ours
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
}
COSTS = ("test/firing_rate", "test/ops", "test/acs", "test/macs", "test/energy_mj", "test/energy_folded_mj")
SELECTIONS = {
    "val": "the epoch was chosen by the validation split.",
    "last": "the weights after the last epoch; nothing was chosen.",
    "paper": "the epoch was chosen by the test split itself, so the numbers are too high.",
}


def model_card(
    name: str,
    address: str,
    card: Mapping[str, Any],
    result: Mapping[str, Any],
    exit_measured: Mapping[str, Any] | None,
    versions: Mapping[str, str],
    license: str | None,
) -> str:
    """Write what a stranger must know of a student to use it: where from, how good, at what cost, how to load it.

    Args:
        name: Name of the model.
        address: What `load_student` is given.
        card: The content of student.json.
        result: That of result.json.
        exit_measured: That of exit.json; None if no early exit was fitted.
        versions: Of the packages that it was trained with.
        license: Of the weights; None is printed as not stated.

    Returns:
        Markdown behind YAML.
    """
    timesteps = card["student"]["timesteps"]
    settings = {key: _without_folder(key, value) for key, value in result.items() if "/" not in key}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(
        front=yaml.safe_dump(_front_matter(name, settings, result, license), sort_keys=False, allow_unicode=True),
        name=name,
        address=address,
        card={"sha256": "not stated", **card},
        settings={"student": "?", "neuron": "?", "teacher": "none", "data": "?", "seed": "?", **settings},
        timesteps=timesteps,
        frames=card.get("frames"),
        split="test split" if "test_images" not in result else "a test split that is not the run's own",
        selection=SELECTIONS.get(str(settings.get("selection")), ""),
        steps=list(_steps(result)),
        teacher=_value("teacher/acc", result),
        costs=[(measure(each).title, _value(each, result)) for each in COSTS],
        assumptions=ASSUMPTIONS,
        early_exit=_early_exit(card.get("exit"), exit_measured),
        classes=", ".join(map(str, card.get("classes") or range(card["num_classes"]))),
        versions=versions,
        license=license,
    )


def _front_matter(
    name: str, settings: Mapping[str, Any], result: Mapping[str, Any], license: str | None
) -> dict[str, Any]:
    """What the Hub reads; a key that has nothing to say is left out."""
    data = str(settings.get("data", "unknown"))
    accuracy = {"type": "accuracy", "name": measure("test/acc").heading, "value": result["test/acc"]}
    measured = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": DATASETS.get(data, data), "name": data, "split": "test"},
        "metrics": [accuracy],
    }
    return {
        **({"license": license} if license else {}),
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": ["spiking-neural-network", "knowledge-distillation", str(settings.get("loss"))],
        **({"datasets": [DATASETS[data]]} if data in DATASETS else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": name, "results": [measured]}],
    }


def _without_folder(key: str, value: Any) -> Any:
    """Leave out where a file lay on the machine of the training."""
    return Path(value).name if key.endswith((".weights", ".path", ".root")) and isinstance(value, str) else value


def _value(name: str, result: Mapping[str, Any]) -> str:
    what, value = measure(name), measure(name).of(result)
    if value is None:
        return "not measured"
    number = f"{value:.3g}" if what.unit == "mJ" else what.printed(value)  # small nets take nanojoules
    return f"{number} {what.unit}".strip()


def _steps(result: Mapping[str, Any]) -> Any:
    t = 1
    while f"test/acc_t{t}" in result:
        yield {"t": t, "so_far": f"{result[f'test/acc_t{t}']:.2f}", "alone": f"{result[f'test/acc_step{t}']:.2f}"}
        t += 1


def _early_exit(rule: Mapping[str, Any] | None, measured: Mapping[str, Any] | None) -> str:
    if not rule or not measured:
        return "Not fitted: the student runs all steps."
    if rule["threshold"] is None:
        return (
            f"Fitted on {rule['images']} validation images for a loss of at most {rule['max_loss']:g} points "
            f"({rule['bound']}), which they cannot show: the student runs all steps."
        )
    return (
        f"`predict` stops at a confidence of {rule['threshold']:.4g}, fitted on {rule['images']} validation images for "
        f"a loss of at most {rule['max_loss']:g} points ({rule['bound']}). On the test split: "
        f"{measured['accuracy']:.2f} % at {measured['mean_steps']:.2f} steps and {measured['energy_mj']:.3g} mJ on "
        f"average, beside {measured['accuracy_full']:.2f} % at {measured['timesteps']} steps and "
        f"{measured['energy_full_mj']:.3g} mJ. `predict(images, early=False)` runs all steps."
    )
