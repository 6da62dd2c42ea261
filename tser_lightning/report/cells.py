"""What stands in a cell of the comparison: accuracy over seeds, its test against the baseline, the printed number."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from types import MappingProxyType

from tser_lightning.errors import UsageError
from tser_lightning.records.measures import HIGHER, NEITHER, Measure, measure, measured
from tser_lightning.report.collect import RunRecord
from tser_lightning.report.grid import Grid, latest
from tser_lightning.report.labels import LOSSES, Label
from tser_lightning.report.mixtures import unlike, warnings
from tser_lightning.report.names import NAMES
from tser_lightning.report.published import PublishedAccuracy, published, published_methods, teacher_of
from tser_lightning.report.statistics import Comparison, Summary, compare, summarise

ACCURACY = "test/acc"
BASELINE = "vanilla_kd"
PLAIN_NEURONS = ("lif", "if")
KNOWN = ("timesteps", "attention", "variant")  # a variant has the name of the method that it was published with
PLAIN_NORMS = ("bn", "BatchNorm2d")
UNTAUGHT = ("ce", "tet")
RECIPE = ("trainer", "optim", "schedule", "data")
PUBLISHED_TAU = 5

SELECTION = {
    "val": "selection=val: measured once, with the weights of the epoch with the best validation accuracy",
    "last": "selection=last: measured once, with the weights after the last epoch",
    "paper": "selection=paper: BEST TEST EPOCH; the epoch was chosen on the test split itself, as the field does, "
    "which gives accuracies that are too high by some tenths",
}


SELECTED = {
    "val": "The weights are those of the epoch with the best validation accuracy, measured once on the test split",
    "last": "The weights are those after the last epoch, measured once on the test split",
    "paper": "The weights are those of the best test epoch, chosen on the test split itself",
}


@dataclass(frozen=True)
class Cell:
    """One method in one setting.

    Attributes:
        measure: What its numbers are.
        values: By seed, finished runs alone.
        failed: Runs that are not finished.
        summary: Over the seeds; None if no run is finished.
        comparison: With the baseline; None for the baseline itself or without one.
        unlike: What its runs and those of the baseline come from that is not the same, e.g. ("commit",).
        published: What the paper prints for this method here.
        best: Whether no other method of this setting that has as many seeds as any has a better mean.
    """

    measure: Measure
    values: Mapping[int, float] = field(default_factory=dict)
    failed: tuple[RunRecord, ...] = ()
    summary: Summary | None = None
    comparison: Comparison | None = None
    unlike: tuple[str, ...] = ()
    published: PublishedAccuracy | None = None
    best: bool = False


@dataclass(frozen=True)
class Comparisons:
    """The summary table before it is drawn.

    Attributes:
        grid: The runs.
        cells: A cell for every row and column that has runs.
        baseline: By row, the row that it is compared with.
        measure: What is compared.
        notes: What the table rests on: selection, tests.
        warnings: What is mixed in it, to be read before it.
        names: What papers call methods and settings, by what the config calls them.
    """

    grid: Grid
    cells: Mapping[tuple[Label, Label], Cell]
    baseline: Mapping[Label, Label]
    measure: Measure
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)

    @property
    def seeds(self) -> str:
        """Over how many seeds there are means: "3 seeds", "1 to 3 seeds"."""
        return _seeds(self.cells.values())

    @property
    def protocol(self) -> str:
        """How the numbers were chosen, in sentences."""
        return " ".join(f"{SELECTED.get(rule, f'selection={rule}')}." for rule in _rules(self.grid))

    @property
    def uneven(self) -> bool:
        """Whether there are more seeds of one method than of another."""
        return len({cell.summary.n for cell in self.cells.values() if cell.summary}) > 1

    @cached_property
    def rows(self) -> list[Label]:
        """Methods, of those settings."""
        shown = set(self.columns)
        there = {row for row, column in self.cells if column in shown}
        return [row for row in self.grid.rows if row in there]

    @cached_property
    def columns(self) -> list[Label]:
        """Settings in which a run is finished; all of them where none is. The rest is told by `table.unfinished`."""
        finished = {column for (_, column), cell in self.cells.items() if cell.summary}
        return [column for column in self.grid.columns if column in finished or not finished]

    def cell(self, row: Label, column: Label) -> Cell:
        """Give the cell of a method in a setting; an empty one where there are no runs."""
        return self.cells.get((row, column), Cell(self.measure))

    def teacher(self, column: Label, names: Mapping[str, str] = MappingProxyType({})) -> str:
        """Name the teachers of a setting with their test accuracy in percent, as a paper does if it is told how."""
        records = [record for runs in self.grid.of_column(column).values() for record in runs]
        found = {(str(r.settings.get("teacher")), r.numbers.get("teacher/acc")) for r in records}
        named = sorted((name, accuracy) for name, accuracy in found if accuracy is not None)
        return ", ".join(f"{names.get(name, name)} {accuracy:.2f}" for name, accuracy in named)


def compare_methods(
    grid: Grid, baseline: str | None = None, name: str = ACCURACY, names: Mapping[str, str] | None = None
) -> Comparisons:
    """Work out every cell.

    Args:
        grid: The runs.
        baseline: A loss, or the whole name of a row; None: vanilla_kd where it was run.
        name: The measure to compare by, e.g. "test/ece".
        names: More names for `Comparisons.names`.

    Raises:
        UsageError: No row has the name of the baseline, or no run has the measure.
    """
    what = _known(grid, name)
    against = _baselines(grid, baseline)
    cells: dict[tuple[Label, Label], Cell] = {}
    for column in grid.columns:
        finished = grid.of_column(column)
        values = {row: latest(records, lambda r: r.value(what)) for row, records in finished.items()}
        values = {row: by_seed for row, by_seed in values.items() if by_seed}
        summaries = {row: summarise(list(by_seed.values())) for row, by_seed in values.items()}
        best = _best(summaries, what)
        placed = {row: grid.cells[row, column] for row in grid.rows if (row, column) in grid.cells}
        for row, records in placed.items():
            base, own = against.get(row), values.get(row, {})
            cells[row, column] = Cell(
                measure=what,
                values=own,
                failed=tuple(record for record in records if not record.finished and (record.seed or 0) not in own),
                summary=summaries.get(row),
                comparison=compare(own, values.get(base, {})) if base not in (None, row) and own else None,
                unlike=unlike(finished[row], finished[base]) if base and {row, base} <= finished.keys() else (),
                published=_printed(column, records) if name == ACCURACY else None,
                best=row in best,
            )
    notes = tuple(_notes(grid, against, cells, what))
    return Comparisons(grid, cells, against, what, notes, tuple(warnings(grid, against)), {**NAMES, **(names or {})})


def _known(grid: Grid, name: str) -> Measure:
    """Find the measure of a name; a `UsageError` where no finished run has it."""
    records = [record for found in grid.cells.values() for record in found if record.finished]
    what = measure(name)
    if records and all(record.value(what) is None for record in records):
        known = [each.name for each in measured(dict.fromkeys(n for record in records for n in record.numbers))]
        near = get_close_matches(name, known, n=1, cutoff=0.4)
        raise UsageError(
            what=f"report.measure={name} was measured in none of the runs",
            why=f"they have {', '.join(known)}",
            fix=f"report.measure={(near or [ACCURACY])[0]}",
        )
    return what


def _best(summaries: Mapping[Label, Summary], what: Measure) -> set[Label]:
    """Choose the rows in bold: the best mean, as printed, of those with the most seeds; none where one row is all.

    A mean over fewer seeds is not held against one over more: the luckiest of single runs would often win.
    """
    most = max((summary.n for summary in summaries.values()), default=0)
    means = {row: float(what.printed(summary.mean)) for row, summary in summaries.items() if summary.n == most}
    if len(means) < 2 or what.better == NEITHER:
        return set()
    best = (max if what.better == HIGHER else min)(means.values())
    return {row for row, mean in means.items() if mean == best}


def _printed(column: Label, records: Sequence[RunRecord]) -> PublishedAccuracy | None:
    """Give the published number of what was run; None unless method, network and teacher are those published."""
    data, student, steps = str(column.get("data")), str(column.get("student")), column.get("student.timesteps")
    if not published_methods(data, student, steps):
        return None  # before every config.yaml is read
    methods = {published_method(record) for record in records}
    method = methods.pop()
    if methods or method is None:
        return None
    found = published(data, student, steps, method)
    taught = all(record.settings.get("teacher") == teacher_of(student) for record in records)
    if found is None or not (taught or method not in LOSSES or method in UNTAUGHT):
        return None
    return replace(found, here=tuple(sorted({word for record in records for word in _otherwise(record)})))


def published_method(record: RunRecord) -> str | None:
    """Name what a run is of the published methods: a loss, or a neuron or attention trained without a teacher."""
    settings = record.settings
    loss, neuron = str(settings.get("loss")), str(settings.get("neuron", "lif"))
    norm = str(settings.get("norm") or record.config.get("norm._target_") or "bn")
    attention = settings.get("student.attention", record.config.get("student.attention"))
    others = {key for key in settings if key.startswith("student.")} - {f"student.{name}" for name in KNOWN}
    special = [name for name in (neuron, attention) if name not in (*PLAIN_NEURONS, None)]
    method = str(special[0]) if special else loss
    if others or norm.rpartition(".")[2] not in PLAIN_NORMS or settings.get("student.variant", method) != method:
        return None
    if not special:
        return loss if neuron == "lif" else None
    return method if loss == "ce" and len(special) == 1 else None


def _otherwise(record: RunRecord) -> list[str]:
    """Name the settings of protocol and recipe in which a run is not what was published, as far as it is known."""
    settings = record.settings
    words = [] if settings.get("selection") == "paper" else [f"selection={settings.get('selection')}"]
    recipe = {key: value for key, value in settings.items() if key.partition(".")[0] in RECIPE and key != "data"}
    usual = {"optim": "sgd", "schedule": "cosine", "trainer": "default"}
    words += [f"{key}={value}" for key, value in recipe.items() if usual.get(key) != value]
    tau = settings.get("loss.tau", PUBLISHED_TAU)
    return words if tau == PUBLISHED_TAU else [*words, f"tau={tau}"]


def _baselines(grid: Grid, name: str | None) -> dict[Label, Label]:
    """Find what each row is compared with: of several rows of the named loss, the one that is like it otherwise."""
    wanted = name or BASELINE
    named = [row for row in grid.rows if str(row) == wanted] or [row for row in grid.rows if row.get("loss") == wanted]
    if not named and name is not None:
        known = ", ".join(repr(str(row)) for row in grid.rows)
        raise UsageError(f"no method is called {name!r}", f"the runs have {known}", "report.baseline=NAME of these")
    if len(named) == 1:
        return dict.fromkeys(grid.rows, named[0])
    found = {}
    for row in grid.rows:
        alike = [base for base in named if _besides_loss(base) == _besides_loss(row)]
        if len(alike) == 1:
            found[row] = alike[0]
    return found


def _besides_loss(row: Label) -> list[tuple[str, object]]:
    pairs = zip(row.keys, row.values, strict=True)
    return [(key, value) for key, value in pairs if not key.startswith("loss")]


def _notes(
    grid: Grid, against: Mapping[Label, Label], cells: Mapping[tuple[Label, Label], Cell], what: Measure
) -> list[str]:
    records = [record for found in grid.cells.values() for record in found if record.finished]
    rules = _rules(grid)
    notes = [f"{what.name}: {what.meaning}, {what.unit or 'a number without unit'}."] if what.meaning else []
    notes += [f"{SELECTION.get(rule, f'selection={rule}')}." for rule in rules]
    notes.append(f"Mean +- standard deviation over {_seeds(cells.values())} (n - 1); 95 % t-interval of the mean.")
    if any(cell.best for cell in cells.values()):
        extreme = "highest" if what.better == HIGHER else "lowest"
        notes.append(
            f"Bold: the {extreme} mean of a setting, among the methods with the most seeds there; it says nothing of "
            "whether the difference is significant."
        )
    bases = sorted({str(base) for base in against.values()})
    if bases and any(cell.comparison for cell in cells.values()):
        notes.append(
            f"p: two-sided paired t-test over common seeds against {' or '.join(bases)}, not corrected for the number "
            "of comparisons."
        )
    else:
        notes.append("No p-values: there is no baseline among the runs to compare with.")
    if any(cell.summary and cell.summary.n == 1 for cell in cells.values()):
        notes.append("No interval and no p where there is one seed: one run says nothing about the spread.")
    if any(cell.published for cell in cells.values()):
        notes.append(
            "Published: what the paper prints for the same method, data, student, teacher and T "
            "(experiments/paper.yaml), and beside it what our runs have otherwise (here ...); the paper "
            "chose epochs on the test split and does not print alpha and lambda. ? marks a number that is in doubt."
        )
    if any(record.settings.get("data") == "synthetic" for record in records):
        notes.append("data=synthetic is random data: its accuracies mean nothing.")
    return notes


def _rules(grid: Grid) -> list[str]:
    records = [record for found in grid.cells.values() for record in found if record.finished]
    return sorted({str(record.settings.get("selection")) for record in records})


def _seeds(cells: Iterable[Cell]) -> str:
    """Say over how many seeds there are means: "3 seeds", "1 to 3 seeds"."""
    counts = sorted({cell.summary.n for cell in cells if cell.summary}) or [0]
    few, most = counts[0], counts[-1]
    return f"{few if few == most else f'{few} to {most}'} seed{'s' if most != 1 else ''}"
