import time

import pytest
import torch

from tser_lightning.training import precision
from tser_lightning.training.precision import bfloat16_time, check_precision

CPU = torch.device("cpu")


def test_what_is_said_of_bfloat16_is_what_this_processor_does() -> None:
    """Against linear layers, timed another way: slower by far there is slower here, and the other way round."""
    x, weight = torch.ones(512, 512), torch.ones(512, 512)
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        given = [each.to(dtype) for each in (x, weight)]
        found = []
        for _ in range(5):
            begin = time.thread_time()
            torch.nn.functional.linear(*given)
            found.append(time.thread_time() - begin)
        seconds[dtype] = min(found)
    ratio = seconds[torch.bfloat16] / seconds[torch.float32]
    assert bfloat16_time() > 0.05
    assert not (ratio > 5 and bfloat16_time() < 1)
    assert not (ratio < 0.3 and bfloat16_time() > 1.5)


@pytest.mark.parametrize(("times", "said"), [(0.5, "take 0.5 times"), (1.8, "take 1.8 times")])
def test_mixed_precision_is_warned_of_where_it_was_slower(
    times: float, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "bfloat16_time", lambda: times)  # another processor
    with caplog.at_level("INFO", "tser_lightning"):
        check_precision("bf16-mixed", CPU)
    [record] = caplog.records
    assert said in record.getMessage()
    assert (
        (record.levelname == "WARNING")
        == ("slow here" in caplog.text)
        == ("precision=32-true" in caplog.text)
        == (times > 1)
    )


def test_nothing_is_said_of_float32_or_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "bfloat16_time", lambda: 9.0)
    with caplog.at_level("INFO", "tser_lightning"):
        check_precision("32-true", CPU)
        check_precision("bf16-mixed", torch.device("cuda"))
    assert not caplog.records
