"""What the library says of arguments becomes what a command says of settings; Python hears of arguments."""

import ast
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tser_lightning as tl
from tser_lightning.config.run import Run
from tser_lightning.config.translation import Translation, arguments_as_settings, arguments_of_a_run
from tser_lightning.errors import RunError, UsageError
from tser_lightning.schema.setting import declared_targets, settings_of

PACKAGE = Path(tl.__file__).parent
LIBRARY = ("data", "training", "kernels", "models", "neurons", "losses", "measure")
DECLARED = {name for target in declared_targets() for name in settings_of("", target)}
GROUPS = sorted(folder.name for folder in (PACKAGE.parent / "conf").iterdir() if folder.is_dir())


def test_an_argument_is_named_as_the_setting_that_it_was() -> None:
    with pytest.raises(UsageError) as caught, arguments_as_settings("teacher", {"dim": 3, "heads": 2, "_target_": "x"}):
        raise UsageError("dim=3 cannot be divided by heads=2", "student.dim is another", "dim = 4 heads=2")
    error = caught.value
    assert error.what == "teacher.dim=3 cannot be divided by teacher.heads=2"
    assert (error.why, error.fix) == ("student.dim is another", "teacher.dim = 4 teacher.heads=2")
    assert str(error).splitlines()[0] == error.what


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("clip=None", "trainer.clip=null"),
        ("clip=True, clip=False", "trainer.clip=true, trainer.clip=false"),
        ("clip=Nonesuch", "trainer.clip=Nonesuch"),
        ("a smaller `clip`", "a smaller trainer.clip"),
        ("trainer.clip=1 my_clip=2 clip==3 clipped", "trainer.clip=1 my_clip=2 clip==3 clipped"),
        ("'clip=1 2'", "'trainer.clip=1 2'"),
        ("`ImageFolder` or `IF`, a `Teacher`, LIF", "data=image_folder or neuron=if, a Teacher, LIF"),
        ("`ulimit -n 4096`", "`ulimit -n 4096`"),
    ],
)
def test_what_is_translated_and_what_is_not(said: str, heard: str) -> None:
    assert Translation({"clip": "trainer.clip"})(said) == heard


def test_a_whole_run_is_translated_errors_of_runs_and_the_log_too(
    compose: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    config = compose("loss=tser").config
    log, fix = (
        logging.getLogger("tser_lightning"),
        "batch_size=2 crop=1 v_threshold=1 lr=0.1 selection=last timesteps=2",
    )

    def run() -> None:
        with arguments_of_a_run(config):
            log.warning("lower `lam` than %s, or ema=None", 0.5)
            raise RunError("memory=low", "through_time=True", fix)

    with pytest.raises(RunError) as caught:
        run()
    assert caplog.messages == ["lower loss.lam than 0.5, or trainer.ema=null"]
    error = caught.value
    assert (error.what, error.why) == ("machine.memory=low", "trainer.through_time=true")
    assert (
        error.fix
        == "data.batch_size=2 data.augment.crop=1 neuron.v_threshold=1 optim.lr=0.1 selection=last student.timesteps=2"
    )
    log.warning("lam=1")
    assert caplog.messages[-1] == "lam=1"


def test_python_hears_of_its_own_arguments() -> None:
    with pytest.raises(UsageError, match=r"^dim=100 cannot be divided by 8 and by heads=12"):
        tl.build_student("spikformer", dim=100, heads=12)


def spoken(file: Path) -> Iterator[str]:
    """All text of a module but for docstrings; of text with values in it, what stands around them."""
    tree = ast.parse(file.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside | docstrings:
            yield node.value


def settings_named(text: str) -> list[str]:
    """The settings and choices of a command that a text names."""
    chosen = [found[0] for found in re.finditer(rf"(?<![\w.])({'|'.join(GROUPS)}|task)=[a-z]", text)]
    dotted = re.finditer(rf"(?<![\w.])(?:{'|'.join(GROUPS)})\.(\w+)(=?)(?![\w(])", text)
    return chosen + [found[0] for found in dotted if found[2] or found[1] in DECLARED]


@pytest.mark.parametrize("room", LIBRARY)
def test_no_message_of_the_library_names_a_setting_of_the_command_line(room: str) -> None:
    assert settings_named("set data.resize= or loss.mean()") == ["data.resize="]
    assert settings_named("as data.num_classes says, or loss=tet") == ["loss=t", "data.num_classes"]
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    named = {
        file.name: [each for text in spoken(file) if "python -m" not in text for each in settings_named(text)]
        for file in files
    }
    assert not {name: found for name, found in named.items() if found}
