"""Commands that nobody should type: each composes, or is answered in a few lines with exit code 2."""

import random
import signal
from pathlib import Path
from types import FrameType

import pytest

from tser_lightning.cli.main import guarded
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import compose_run

JUNK = [
    *(
        "",
        " ",
        "'",
        '"',
        "''",
        "null",
        "None",
        "true",
        "yes",
        "???",
        "nan",
        "-inf",
        "1e400",
        "-1",
        "0",
        "1.5",
        "9" * 400,
    ),
    *(
        "\u22121",
        "\u2013\u20091",
        "1, 2",
        "1,2",
        "[1,2",
        "1]",
        "[]",
        "[[[]]]",
        "{}",
        "{a:{b:{c:[1,{d:2}]}}}",
        "{a",
        "a:b",
    ),
    *("${seed}", "${", "${a.b.c}", "${loss}", "${oc.env:HOME}", "${oc.env:NOT_THERE}", "${now:%Y}", "range(1,3)"),
    *(
        "glob(*)",
        "choice(1,2)",
        "shuffle(1,2)",
        "sort(2,1)",
        "tag(a,1)",
        "int(x)",
        "json_str({})",
        "\\",
        "\\,",
        "a=b=c",
    ),
    *(
        "\x00",
        "\u202e",
        "\U0001f600",
        "x" * 3000,
        "../../etc/passwd",
        "/dev/null",
        "~",
        "*",
        "a b",
        "\t",
        "\n",
        "%s",
        "{0}",
    ),
    *("tser_lightning.losses.TSER", "os.system", "digits", "tser", "resnet18", "[0.5,0.5,0.5]", "inf", "0x10", "1_000"),
]
NAMES = [
    "",
    " ",
    "hydra",
    "hydra.run.dir",
    "hydra/launcher",
    "loss.",
    ".loss",
    "loss..lam",
    "loss.lam.x",
    "a",
    "-m",
    "@",
    "loss@x",
]


def command(draw: random.Random, keys: list[str], options: dict[str, list[str]]) -> list[str]:
    """Draw up to five overrides, most of them near something that exists."""
    words = []
    for _ in range(draw.randint(1, 5)):
        kind = draw.random()
        key = draw.choice(keys if kind < 0.6 else list(options) if kind < 0.85 else NAMES)
        if draw.random() < 0.1:
            place = draw.randrange(len(key) + 1)
            key = key[:place] + draw.choice(["x", ".", "/", "\u22b4", "'", " "]) + key[place + 1 :]
        values = options[key] if key in options and draw.random() < 0.6 else JUNK
        before, between = draw.choice(["", "", "", "+", "++", "~"]), draw.choice(["=", "=", "=", "", "=="])
        word = f"{before}{key}{between}{draw.choice(values)}"
        words.append(word if draw.random() < 0.9 else draw.choice(JUNK))
    return words


def too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError("this command takes longer than a minute to answer")


def answer_all(configs: Configs, folder: Path, capsys: pytest.CaptureFixture[str], seed: int, count: int) -> None:
    draw, plain = random.Random(seed), compose_run([], configs=configs)
    keys = [
        *plain.given,
        *(f"{group}.{name}" for group, node in plain.config.items() if isinstance(node, dict) for name in node),
    ]
    options = {group: configs.options(group) for group in configs.groups()}
    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for _ in range(count):
            words = command(draw, keys, options)
            signal.alarm(60)
            code = guarded(lambda words=words: int(compose_run(words, configs=configs) is None))  # type: ignore[misc]
            signal.alarm(0)
            told = capsys.readouterr().err
            assert code in (0, 2), (words, told)
            assert "Traceback" not in told, words
            assert len(told.splitlines()) <= 3 * (len(words) + 6), (words, told)  # a set by path lacks six settings
            assert (code == 2) == bool(told), (words, told)
            assert not list(folder.iterdir()), words
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_odd_commands_are_answered(configs: Configs, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer_all(configs, folder, capsys, seed=0, count=30)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_two_thousand_odd_commands_are_answered(
    configs: Configs, folder: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    answer_all(configs, folder, capsys, seed, count=500)


@pytest.mark.parametrize("path", ["x" * 3000, "a\\0b"])
def test_a_path_that_cannot_be_one_is_answered(configs: Configs, capsys: pytest.CaptureFixture[str], path: str) -> None:
    words = [f"teacher.weights='{path}'"]
    assert guarded(lambda: int(compose_run(words, configs=configs) is None)) == 2
    assert "Traceback" not in capsys.readouterr().err
