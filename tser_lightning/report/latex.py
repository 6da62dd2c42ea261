r"""Tables as a paper prints them: booktabs, siunitx, names as papers write them, the protocol in the caption."""

import re
from collections.abc import Iterable, Sequence

from tser_lightning.records.measures import Measure
from tser_lightning.report.cells import Cell, Comparisons
from tser_lightning.report.claim import CLAIM
from tser_lightning.report.labels import Label
from tser_lightning.report.mixtures import UNLIKE
from tser_lightning.report.names import written
from tser_lightning.report.table import difference, interval, p_value, printed, seeds, spread, unfinished

NEEDS = r"% needs \usepackage{booktabs} and \usepackage{siunitx}, version 3"
SETUP = r"\sisetup{separate-uncertainty, retain-zero-uncertainty, detect-weight, mode=text}"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}"}
_TEX |= {">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}", PLUS_MINUS: r"$\pm$", UNLIKE: r"$^\dagger$"}
_TEX |= {sign: f"\\{sign}" for sign in "$&%#_{}"}


def escape_tex(text: str) -> str:
    r"""Write text so that LaTeX prints it as it is, but for what stands between two dollar signs; "\$" is one alone."""
    parts = re.split(r"(\\\$|\$[^$]*\$)", text)  # every second one is what was looked for
    return "".join(part if number % 2 else _plain(part) for number, part in enumerate(parts))


def _plain(text: str) -> str:
    escaped = "".join(_TEX.get(letter, letter) for letter in text)
    return re.sub(r"(-(?=-)|'(?=')|`(?=`)|,(?=,)|[?!](?=`))", r"\1{}", escaped)  # LaTeX makes one sign of two


def table_tex(comparisons: Comparisons) -> str:
    """Write the comparison as a LaTeX table: one column of a page wide for one setting, two for more."""
    fields = {column: _fields(comparisons, column) for column in comparisons.columns}
    kinds = "".join(_kind(comparisons, column, name) for column, names in fields.items() for name in names)
    spans, rules, head = list[str](), list[str](), list[str]()
    for column, names in fields.items():
        first = len(head) + 2
        spans.append(rf"\multicolumn{{{len(names)}}}{{c}}{{{_stacked(comparisons, column)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + len(names) - 1}}}")
        head += [f"{{{TITLES[name]}}}" for name in names]
    body = [_line([_name(comparisons, row), *_words(comparisons, row, fields)]) for row in comparisons.rows]
    several = len(comparisons.columns) > 1
    top = [" & ".join(["", *spans]) + r" \\", "".join(rules)] if several else []
    lines = [rf"\begin{{tabular}}{{l{kinds}}}", r"\toprule", *top, " & ".join(["Method", *head]) + r" \\"]
    lines += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return _table(comparisons, lines, _caption(comparisons), "results", wide=several)


def _line(words: Sequence[str]) -> str:
    """Make a row of its cells; a bracket or star at its start would be an argument of the row's end before it."""
    return ("{}" if words[0].startswith(("[", "*")) else "") + " & ".join(words) + r" \\"


TITLES = {
    "value": "Mean",
    "seeds": "$n$",
    "interval": r"95\,\% interval",
    "difference": r"$\Delta$",
    "p": "$p$",
    "published": "Published",
}
BOLD, MARK = r"\bfseries ", r"$^\dagger$"


def _fields(comparisons: Comparisons, column: Label) -> list[str]:
    cells = [cell for (_, other), cell in comparisons.cells.items() if other == column]
    say = {"seeds": seeds, "interval": interval, "difference": difference, "p": p_value, "published": printed}
    shown = [name for name, word in say.items() if any(map(word, cells))]
    if len(comparisons.columns) > 1:
        shown = [name for name in shown if name != "interval"]  # room for the settings
    return ["value", *(name for name in shown if name != "seeds" or comparisons.uneven)]


def _kind(comparisons: Comparisons, column: Label, name: str) -> str:
    if name != "value":
        return {"seeds": "r", "interval": "c", "difference": "r", "p": "r", "published": "r"}[name]
    return _number_column(comparisons.cell(row, column) for row in comparisons.rows)


def _number_column(cells: Iterable[Cell]) -> str:
    """Declare a siunitx column that is as wide as its numbers: S[table-format=2.2(3)]."""
    summaries = [(cell.measure, cell.summary) for cell in cells if cell.summary]
    whole = max((len(what.printed(summary.mean).partition(".")[0]) for what, summary in summaries), default=1)
    digits = summaries[0][0].digits if summaries else 0
    spreads = [what.printed(summary.std) for what, summary in summaries if summary.std is not None]
    width = max((len(text.replace(".", "").lstrip("0")) for text in spreads), default=0)
    return f"S[table-format={whole}.{digits}{f'({max(width, 1)})' if spreads else ''}]"


def _words(comparisons: Comparisons, row: Label, fields: dict[Label, list[str]]) -> list[str]:
    words = []
    for column, names in fields.items():
        cell = comparisons.cell(row, column)
        say = {
            "value": number(cell) if (row, column) in comparisons.cells else "{--}",
            "seeds": seeds(cell),
            "interval": escape_tex(interval(cell)),
            "difference": escape_tex(difference(cell)).replace("-", "$-$"),
            "p": escape_tex(p_value(cell)),
            "published": escape_tex(printed(cell, PLUS_MINUS)),
        }
        words += [say[name] for name in names]
    return words


def number(cell: Cell) -> str:
    r"""Write a mean and its spread for a siunitx column: "\bfseries 95.56 +- 0.89"; words in braces."""
    if cell.summary is None:
        return f"{{{escape_tex(spread(cell))}}}"
    return f"{BOLD if cell.best else ''}{spread(cell, '+-')}"


def claim_tex(compared: Sequence[Comparisons]) -> str:
    """Write the claim's table: a method has its means in one line, and interval, difference and p in a second."""
    first = compared[0]
    lines = []
    for column in first.columns:
        rows = [row for row in first.rows if (row, column) in first.cells]
        kinds = "".join(_number_column(each.cell(row, column) for row in rows) for each in compared)
        head = [f"{{{escape_tex(CLAIM[each.measure.name])}}}" for each in compared]
        lines += [rf"\begin{{tabular}}{{l{kinds}}}", r"\toprule"]
        lines += [" & ".join([_name(first, column), *head]) + r" \\", r"\midrule"]
        for row in rows:
            cells = [each.cell(row, column) for each in compared]
            lines.append(_line([_name(first, row), *map(number, cells)]))
            for say in (interval, _tested):
                if any(map(say, cells)):
                    lines.append(" & ".join(["", *(rf"{{\scriptsize {say(cell)}}}" for cell in cells)]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}", r"\par\medskip"]
    caption = (
        r"Accuracy in \% at $t = 1$, of the single steps (mean and spread over the steps, in points), and of all $T$ "
        f"steps. {_caption(first, heading=False)} Below them: 95\\,\\% interval; mean difference from the baseline and "
        "$p$."
    )
    return _table(first, lines[:-1], caption, "claim", wide=True)


def _tested(cell: Cell) -> str:
    p, points = p_value(cell), difference(cell)
    test = f"${points.removesuffix(UNLIKE)}${MARK if cell.unlike else ''}" if points else ""
    word = f"$p {p if p.startswith('<') else f'= {p}'}$" if p else ""
    return ", ".join(part for part in (test, word) if part)


def _table(comparisons: Comparisons, lines: Sequence[str], caption: str, label: str, *, wide: bool) -> str:
    kind = "table*" if wide else "table"
    said = [*comparisons.warnings, *comparisons.notes, *(", ".join(gap) for gap in unfinished(comparisons))]
    return (
        "\n".join(
            [
                NEEDS,
                *(f"% {' '.join(note.split())}" for note in said),
                rf"\begin{{{kind}}}[t]",
                r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
                SETUP,
                rf"\caption{{{caption}}}",
                rf"\label{{tab:{label}}}",
                *lines,
                rf"\end{{{kind}}}",
            ]
        )
        + "\n"
    )


def _caption(comparisons: Comparisons, *, heading: bool = True) -> str:
    """Say the protocol in a caption: what is printed, over how many seeds, how epochs were chosen, which test."""
    what = comparisons.measure
    where = f" on {_name(comparisons, comparisons.columns[0])}" if len(comparisons.columns) == 1 else ""
    teachers = escape_tex(comparisons.teacher(comparisons.columns[0], comparisons.names)) if where else ""
    parts = [f"{_heading(what)}{where}: m" if heading else "M", f"ean and standard deviation over {comparisons.seeds}"]
    parts.append(f", teacher {teachers}" if teachers else "")
    bases = sorted({_name(comparisons, row) for row in comparisons.baseline.values()})
    tested = any(cell.comparison for cell in comparisons.cells.values())
    test = f" $\\Delta$ and $p$: two-sided paired $t$-test against {' or '.join(bases)}." if bases and tested else ""
    return f"{''.join(parts)}. {escape_tex(comparisons.protocol)}{test}"


def _heading(what: Measure) -> str:
    text = escape_tex(what.heading)
    return f"{text[0].upper()}{text[1:]}"


def _name(comparisons: Comparisons, label: Label) -> str:
    return escape_tex(", ".join(written(label, comparisons.names)))


def _stacked(comparisons: Comparisons, column: Label) -> str:
    """Write the name of a setting above its columns, in two lines where it has more than two parts."""
    parts = [escape_tex(part) for part in written(column, comparisons.names)]
    half = (len(parts) + 1) // 2
    if len(parts) < 3:
        return ", ".join(parts)
    return rf"\shortstack{{{', '.join(parts[:half])},\\{{}}{', '.join(parts[half:])}}}"
