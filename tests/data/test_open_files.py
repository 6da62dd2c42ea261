import subprocess
import sys

LOOK = """
import resource, sys
from tser_lightning.data.open_files import make_room_for, workers_that_fit
from tser_lightning.errors import UsageError
soft, hard, workers = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    if workers < 0:
        print(workers_that_fit(-workers))
        sys.exit()
    make_room_for(workers)
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except UsageError as mistake:
    print(mistake.fix)
"""


def limit(soft: int, hard: int, workers: int) -> str:
    words = [sys.executable, "-c", LOOK, *map(str, (soft, hard, workers))]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def test_workers_get_the_open_files_that_they_need_or_are_refused_before_they_stand_still() -> None:
    assert limit(40, 40, 0) == "40"
    assert limit(40, 40, 2).startswith("workers=0")
    assert int(limit(40, 400, 2)) > 60
    assert limit(256, 256, 2) == "256"


def test_as_many_workers_are_chosen_as_have_open_files() -> None:
    assert limit(40, 40, -4) == "0"
    assert limit(40, 4096, -4) == "4"
    chosen = int(limit(130, 130, -16))
    assert 0 < chosen < 16
    assert limit(130, 130, chosen) == "130"
