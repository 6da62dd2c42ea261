"""Results as tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Result = Mapping[str, Any]


def _number(result: Result, name: str, digits: int = 2) -> str:
    value = result.get(name)
    return "not measured" if value is None else f"{value:.{digits}f}"


def steps_table(results: Sequence[Result]) -> Table:
    """Accuracy of the mean of the first t steps and of each step alone, agreement and firing rate: a row per run.

    Args:
        results: Contents of result.json files with the same number of time steps.
    """
    steps = 1 + max(t for t in range(1000) if any(f"test/acc_t{t + 1}" in result for result in results))
    first = results[0]
    table = Table(
        title=f"{first['data']}: {first['student']} from {first['teacher']} "
        f"(test accuracy in %; teacher {_number(first, 'teacher/acc')})"
    )
    table.add_column("loss")
    for t in range(1, steps + 1):
        table.add_column(f"first {t}" if t > 1 else "t=1", justify="right")
    for t in range(2, steps + 1):
        table.add_column(f"step {t} alone", justify="right")
    for name in ("agreement", "firing rate"):
        table.add_column(name, justify="right")
    for result in results:
        table.add_row(
            str(result["loss"]),
            *(_number(result, f"test/acc_t{t}") for t in range(1, steps + 1)),
            *(_number(result, f"test/acc_step{t}") for t in range(2, steps + 1)),
            _number(result, "test/agreement"),
            _number(result, "test/firing_rate"),
        )
    return table
