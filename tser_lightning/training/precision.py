"""What 16 bits are worth on a processor: measured, because instructions that it lists may be slow all the same."""

import logging
import time
from functools import cache

import torch
from torch.nn import functional as F

log = logging.getLogger("tser_lightning")

ROUNDS = 3


def check_precision(precision: str, device: torch.device) -> None:
    """Say what a mixed precision is worth on a processor. It changes results, so it is no choice here.

    Args:
        precision: Lightning's name; for float16 it takes bfloat16 on a processor, and says so.
        device: Where it is asked for, by the student and by its teacher.
    """
    if device.type != "cpu" or "16" not in precision:
        return
    times = bfloat16_time()
    found = f"a convolution and a product in bfloat16 take {times:.2g} times float32's time on this processor"
    if times < 1:
        log.info("precision=%s: %s", precision, found)
    else:
        log.warning("precision=%s is slow here: %s; take precision=32-true", precision, found)


@cache
def bfloat16_time() -> float:
    """Time a convolution and a product, forward and backward, in bfloat16; in parts of their time in float32.

    It takes milliseconds, or half a second where bfloat16 is emulated. Counted is the processor's time, the least of
    some rounds in turn, so that other work on the machine shows as little as it can.
    """
    dtypes = (torch.float32, torch.bfloat16)
    rounds = [[_seconds(dtype) for dtype in dtypes] for _ in range(1 + ROUNDS)]
    full, half = (min(seconds) for seconds in zip(*rounds[1:], strict=True))  # the first call of each prepares
    ratio: float = half / full
    return ratio


def _seconds(dtype: torch.dtype) -> float:
    images = torch.ones(8, 64, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    filters = torch.ones(64, 64, 3, 3, dtype=dtype, requires_grad=True)
    square = torch.ones(256, 256, dtype=dtype, requires_grad=True)
    begin = time.process_time()
    (F.conv2d(images, filters, padding=1).sum() + (square @ square).sum()).backward()
    return time.process_time() - begin
