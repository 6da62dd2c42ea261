from rich.console import Console

from tser_lightning.report.table import steps_table

RESULT = {
    "loss": "tser",
    "data": "digits",
    "student": "resnet_small",
    "teacher": "resnet_small",
    "seed": 1,
    "teacher/acc": 98.5,
    "test/acc": 97.0,
    "test/acc_t1": 90.25,
    "test/acc_t2": 97.0,
    "test/acc_step1": 90.25,
    "test/acc_step2": 95.5,
    "test/agreement": 97.75,
    "test/firing_rate": 12.5,
}


def test_every_number_stands_under_its_name() -> None:
    console = Console(width=200, record=True)
    console.print(steps_table([RESULT, {**RESULT, "loss": "ce", "test/agreement": None}]))
    text = console.export_text()
    head, tser, ce = (next(line for line in text.splitlines() if word in line) for word in ("t=1", "tser", "│ ce"))
    columns = [part.strip() for part in head.split("┃")[1:-1]]
    cells = dict(zip(columns, (part.strip() for part in tser.split("│")[1:-1]), strict=True))
    assert cells == {
        "loss": "tser",
        "t=1": "90.25",
        "first 2": "97.00",
        "step 2 alone": "95.50",
        "agreement": "97.75",
        "firing rate": "12.50",
    }
    assert "not measured" in ce
    assert "98.50" in text
