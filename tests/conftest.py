"""One thread per test process: the tests run several at once, and more threads than cores only wait for each other."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tser_lightning.cli.main import main
from tser_lightning.config.hydra_loader import Configs
from tser_lightning.config.run import Run, compose_run
from tser_lightning.config.usage_errors import UsageErrors

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TSER_CONFIG_DIR"] = os.devnull  # no test reads the defaults of the site that it runs at

# How long an example takes says more of the machine, which may be at work elsewhere, than of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork come first: torch.compile and torch.export start threads of autograd, after which none can."""
    items.sort(key=lambda item: not _forks(item.path))


@cache
def _forks(file: Path) -> bool:
    return file.parent.name == "resilience" or "fork" in file.read_text()


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in; no test may leave a run there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="session")
def configs() -> Configs:
    """The package's own files, composed once per set of choices."""
    return Configs()


@pytest.fixture
def compose(configs: Configs) -> Callable[..., Run]:
    """Compose a command given as one string."""
    return lambda command="", **options: compose_run(command.split(), configs=configs, **options)


Triple = tuple[str, str, str]


def triples(text: str) -> list[Triple]:
    """Read what the command line says about mistakes: (what, why, what to type) each."""
    lines = text.splitlines()
    assert lines
    assert len(lines) % 3 == 0
    starts = ("tser: ", "  why: ", "  try: ")
    assert [line[: len(start)] for line, start in zip(lines, starts * (len(lines) // 3), strict=True)] == [
        *starts * (len(lines) // 3)
    ]
    bare = [line[6:].strip() for line in lines]
    return list(zip(bare[::3], bare[1::3], bare[2::3], strict=True))


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Triple]]:
    """Give a command to the command line, which must refuse it."""

    def run(*argv: str) -> list[Triple]:
        assert main(argv) == 2
        return triples(capsys.readouterr().err)

    return run


@pytest.fixture
def refused(configs: Configs) -> Callable[..., list[Triple]]:
    """Compose a command, which must be refused; the same without reading all config files anew."""

    def run(*argv: str) -> list[Triple]:
        with pytest.raises(UsageErrors) as caught:
            compose_run(argv, configs=configs)
        return triples(str(caught.value))

    return run


@pytest.fixture
def without_hydras_logging() -> Iterator[None]:
    """Take away the handler that `--info` of Hydra leaves: its stream is closed when the test is over."""
    yield
    for handler in [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]:
        logging.getLogger().removeHandler(handler)


@pytest.fixture
def worked_on() -> Callable[[Path], AbstractContextManager[None]]:
    """Let another process hold the lock of a run directory for a while; it is killed at the end."""

    @contextmanager
    def hold(home: Path) -> Iterator[None]:
        code = "import sys; from tser_lightning import operating_system\n"
        code += "held = open(sys.argv[1], 'w'); operating_system.lock(held); print(flush=True); sys.stdin.read()"
        words = [sys.executable, "-c", code, str(home / ".lock")]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield
            process.kill()

    return hold
