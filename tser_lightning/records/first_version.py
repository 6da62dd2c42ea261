"""Configs as the first version wrote them, for the hashes in run names: existing runs keep their names.

There a config named the terms of a loss; now it names the method, whose class makes them.
"""

from collections.abc import Mapping
from typing import Any

_ROOM = "tser_lightning.losses."
_SWITCHES = ("separate_ce", "separate_kl", "regularise_entropy")


def loss_as_terms(loss: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the config of a loss to the first version's form, by its terms.

    Args:
        loss: Resolved, with `_target_`. That of another class than those which were terms then is given back as it is.
    """
    method = str(loss.get("_target_", "")).removeprefix(_ROOM)
    if method not in _TERMS:
        return dict(loss)
    if not _KEYS[method] <= loss.keys():
        return dict(loss)  # written by hand, with defaults left out: no file of the first version
    settings = {key: value for key, value in loss.items() if key not in _SWITCHES}
    terms = {name: {**term, "_target_": _ROOM + term["_target_"]} for name, term in _TERMS[method](loss).items()}
    return {**settings, "_target_": f"{_ROOM}DistillationLoss", "terms": terms}


_EVAL_BATCH_SIZES = {
    "Digits": 500,
    "Downloaded": 1000,
    "Prepared": 1000,
    "ImageFolder": 256,
    "Streamed": 256,
    "Synthetic": 100,
}
_OF_FRAMES = {"dvs_gesture": 64, "cifar10_dvs": 128}


def data_as_hashed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the config of a data set to the first version's form: `eval_batch_size` was part of the name.

    It changes no result; of a set that the first version did not have, it is left out.
    """
    kind = str(data.get("_target_", "")).rpartition(".")[2]
    size = _OF_FRAMES.get(str(data.get("name"))) if kind == "EventFrames" else _EVAL_BATCH_SIZES.get(kind)
    others = {key: value for key, value in data.items() if key != "eval_batch_size"}
    return others if size is None or "eval_batch_size" not in data else {**others, "eval_batch_size": size}


def terms_alone(loss: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the first version's config of a loss to one that can be built: its terms alone."""
    return {key: loss[key] for key in ("_target_", "terms")} if "terms" in loss else dict(loss)


def _ce(loss: Mapping[str, Any], weight: float, over: str) -> dict[str, Any]:
    smoothing = loss["label_smoothing"]
    return {"_target_": "CrossEntropy", "weight": weight, "over": over, "label_smoothing": smoothing}


def _mean(loss: Mapping[str, Any]) -> str:
    return f"mean_{loss.get('mean', 'logits')}"


def _tser(loss: Mapping[str, Any], switches: Mapping[str, bool] | None = None) -> dict[str, Any]:
    separate_ce, separate_kl, entropy = ((switches or loss).get(name, True) for name in _SWITCHES)
    terms = {
        "ce": _ce(loss, 1 - loss["alpha"], "steps" if separate_ce else _mean(loss)),
        "kl": {
            "_target_": "KLDivergence",
            "weight": loss["alpha"],
            "over": "steps" if separate_kl else _mean(loss),
            "tau": loss["tau"],
            "tau_squared": loss["tau_squared"],
        },
    }
    if entropy:
        terms["entropy"] = {
            "_target_": "Entropy",
            "weight": -loss.get("lam", 0.01),
            "tau": loss.get("entropy_tau", 1.0),
        }
    return terms


_TERMS = {
    "LabelsOnly": lambda loss: {"ce": _ce(loss, 1.0, _mean(loss))},
    "TET": lambda loss: {
        "ce": _ce(loss, 1 - loss["lam"], "steps"),
        "mse": {"_target_": "LogitMSE", "weight": loss["lam"], "phi": loss["phi"]},
    },
    "TSER": _tser,
    "VanillaKD": lambda loss: _tser(loss, dict.fromkeys(_SWITCHES, False)),
    "BKDSNN": lambda loss: {
        "ce": _ce(loss, 1.0, "mean_logits"),
        "brd": {
            "_target_": "BlurredFeature",
            "weight": loss["beta"],
            **{key: loss[key] for key in ("student_taps", "teacher_taps", "masked", "clip")},
        },
        "wsld": {"_target_": "WSLD", "weight": 1.0, "tau": loss["tau"]},
    },
}
_KEYS = {
    "LabelsOnly": {"label_smoothing"},
    "TET": {"lam", "phi", "label_smoothing"},
    "TSER": {"alpha", "tau", "tau_squared", "label_smoothing"},
    "VanillaKD": {"alpha", "tau", "tau_squared", "label_smoothing"},
    "BKDSNN": {"beta", "tau", "masked", "clip", "student_taps", "teacher_taps", "label_smoothing"},
}
