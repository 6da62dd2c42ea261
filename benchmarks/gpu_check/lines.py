"""What a part reports: lines, written to its file one by one, so that what was found stays where it is cut off."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

State = Literal["pass", "fail", "goal missed", "measured", "not measured"]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        part: Name of the part that found it.
        what: What was looked at.
        state: "fail" is an equality that does not hold, or a part that broke or was cut off; only it fails the check. A
            figure that falls short of its goal is "goal missed", one without a goal "measured".
        figure: What was found, with its unit.
        goal: What it is held against.
        note: Why, where something is wrong or missing.
    """

    part: str
    what: str
    state: State
    figure: str = ""
    goal: str = ""
    note: str = ""


def exit_code(lines: Iterable[Line]) -> int:
    """1 where a line failed, or where there is none; else 0."""
    states = [line.state for line in lines]
    return int(not states or "fail" in states)


class Report:
    """The lines of one part, appended to a file.

    Args:
        part: Its name.
        file: Where they go, one JSON object a line.
        judged: Whether figures are held against their goals, which are those of a GPU.
    """

    def __init__(self, part: str, file: Path, judged: bool = True) -> None:
        self.part, self.file, self.judged = part, file, judged

    def write(self, what: str, state: State, figure: str = "", goal: str = "", note: str = "") -> None:
        """Append a line."""
        with self.file.open("a") as lines:
            lines.write(json.dumps(asdict(Line(self.part, what, state, figure, goal, note))) + "\n")

    def equal(self, what: str, error: float, allowed: float, unit: str = "", note: str = "") -> None:
        """Report an equality; an error that is no number does not hold."""
        self.write(what, "pass" if error <= allowed else "fail", f"{error:.2g} {unit}".strip(), f"<= {allowed:g}", note)

    def figure(
        self, what: str, value: float, unit: str, most: float | None = None, least: float | None = None, note: str = ""
    ) -> None:
        """Report a measured number against the most or the least that it should be."""
        goal = f"<= {most:g} {unit}" if most is not None else f">= {least:g} {unit}" if least is not None else ""
        reached = (most is None or value <= most) and (least is None or value >= least)
        state: State = "measured" if not (goal and self.judged) else "pass" if reached else "goal missed"
        self.write(what, state, f"{value:.3g} {unit}", goal, note)

    def skipped(self, what: str, why: str) -> None:
        """Report what could not be measured here."""
        self.write(what, "not measured", note=why)


def read(file: Path) -> list[Line]:
    """The lines that a part has written; a last one that was cut in the middle is left out."""
    found = []
    for text in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(Line(**json.loads(text)))
        except json.JSONDecodeError:
            continue
    return found
