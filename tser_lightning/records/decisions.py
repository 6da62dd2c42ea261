"""Decisions of a pruning rule about a run, kept in `pruning.json` in its directory."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tser_lightning.atomic_io import first_process, write_json

FILE = "pruning.json"


@dataclass(frozen=True)
class Decision:
    """A decision of a pruning rule about a run after an epoch.

    Attributes:
        epoch: How many epochs the run had done.
        accuracy: On validation images then, in percent.
        stop: Whether it ends there.
        why: In words.
    """

    epoch: int
    accuracy: float
    stop: bool
    why: str


def read_decisions(home: Path, rule: Mapping[str, Any]) -> list[Decision]:
    """Read the decisions of a rule about a run; empty if there are none, or they are another rule's."""
    try:
        content = json.loads((home / FILE).read_text())
        return [Decision(**each) for each in content["decisions"]] if content["rule"] == dict(rule) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_decisions(home: Path, rule: Mapping[str, Any], decisions: Sequence[Decision]) -> None:
    """Write the decisions so far of a rule, which is given as the config group `prune` has it."""
    write_json(home / FILE, {"rule": dict(rule), "decisions": [asdict(each) for each in decisions]})


def forget_decisions(home: Path) -> None:
    """Delete the decisions about a run, so that it goes on without a rule."""
    if first_process():
        (home / FILE).unlink(missing_ok=True)


def stop_of(home: Path, rule: Mapping[str, Any]) -> Decision | None:
    """Give the decision by which a rule has ended a run; None if it has not."""
    return next((each for each in read_decisions(home, rule) if each.stop), None)
