"""How papers write what configs call otherwise; a file of one's own adds to it (`report.names=FILE`)."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from tser_lightning.errors import UsageError
from tser_lightning.plain_yaml import load
from tser_lightning.report.labels import Label

NAMES = {
    "ce": "CE",
    "tet": "TET",
    "vanilla_kd": "Vanilla KD",
    "kdsnn": "KDSNN",
    "lasnn": "LaSNN",
    "bkdsnn": "BKDSNN",
    "ts_ce": "TS (CE)",
    "ts_kl": "TS (KL)",
    "ts": "TS",
    "vanilla_kd_er": "Vanilla KD + ER",
    "tser": "TSER",
    "digits": "Digits",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "imagenet": "ImageNet",
    "dvs_gesture": "DVS128 Gesture",
    "cifar10_dvs": "CIFAR10-DVS",
    "resnet18": "ResNet-18",
    "resnet19": "ResNet-19",
    "resnet34": "ResNet-34",
    "resnet50": "ResNet-50",
    "sew_resnet18": "SEW-ResNet-18",
    "sew_resnet34": "SEW-ResNet-34",
    "vgg11": "VGG-11",
    "vgg16": "VGG-16",
    "vit_s_16": "ViT-S/16",
    "resnet_small": "ResNet (small)",
    "lif": "LIF",
    "if": "IF",
    "plif": "PLIF",
    "glif": "GLIF",
    "lsg": "LSG",
    "mpbn": "MPBN",
    "im_lif": "IM-LIF",
    "qcfs": "QCFS (conversion)",
    "pfa": "PFA",
    "bn": "BN",
    "tdbn": "tdBN",
    "tebn": "TEBN",
    "loss.lam": r"$\lambda$",
    "loss.tau": r"$\tau$",
    "loss.alpha": r"$\alpha$",
    "loss.beta": r"$\beta$",
    "loss.phi": r"$\phi$",
    "student.timesteps": "$T$",
    "trainer.epochs": "epochs",
    "neuron": "",
    "norm": "",
    "student.attention": "",
    "teacher": "teacher ",
}
UNNAMED = ("loss", "data", "student")  # their values say what they are


def names_of(file: str | Path | None) -> dict[str, str]:
    """Read names of one's own: YAML such as `my_loss: Mine`, a line each; none without a file.

    Raises:
        UsageError: No such file, or it holds something else.
    """
    if file is None:
        return {}
    try:
        content = load(Path(file).expanduser().read_text(), str(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _no_names(file, " ".join(str(error).split())[:160]) from error
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content.values()):
        raise _no_names(file, "it does not give a text for each name")
    return {str(key): str(name) for key, name in content.items()}


def _no_names(file: str | Path, why: str) -> UsageError:
    return UsageError(f"report.names={file} holds no names", why, "a file of lines such as `my_loss: Mine`")


def written(label: Label, names: Mapping[str, str] = NAMES) -> list[str]:
    r"""Say a row or column as a paper does: ["TSER", "$\lambda$ = 0.1"].

    Args:
        label: Of a row or column.
        names: By what the config calls it: values of choices ("tser") and settings ("loss.lam"). Between two dollar
            signs they hold mathematics; a value that is not among them holds none, and its dollar signs get a
            backslash.
    """
    pairs = zip(label.keys, label.values, strict=True)
    return [_word(key, value, names) for key, value in pairs if value is not None]


def _word(key: str, value: object, names: Mapping[str, str]) -> str:
    plain = (str(value).rpartition(".")[2] if key.endswith("_target_") else str(value)).replace("$", r"\$")
    said = names.get(str(value), plain)
    name = names.get(key, key.removeprefix("loss.").removesuffix("._target_"))
    return said if key in UNNAMED or not name else f"{name}{said}" if name.endswith(" ") else f"{name} = {said}"
