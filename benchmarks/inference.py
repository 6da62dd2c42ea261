"""Images per second of a trained student that only answers: ResNet-18, T=4, 32x32 images, eval mode, no autograd.

The floor is its convolutions alone, forward, in channels_last. "folded" has the batch norms in the convolutions before
them (`models.folding.fold_norms`).
"""

import os
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.peers import PEERS, caller, student
from benchmarks.rounds import DEVICE, ON_GPU, report, start, times
from benchmarks.step import watched
from tser_lightning.models.folding import fold_norms

BATCH = int(os.environ.get("BATCH", "512" if ON_GPU else "32"))
STEPS = int(os.environ.get("T", "4"))
PEER = "spikingjelly 2.0.0"
ON_CPU = tuple(f"ours, {how}" for how in ("eager fused nhwc", "eager folded nhwc", "compiled folded nhwc"))
ON_CUDA = (f"{PEER} bf16", *(f"ours, triton {how} nhwc" for how in ("fused", "folded", "folded bf16")))
FLOOR = "convolutions alone"


def answering(name: str, images: Tensor) -> Callable[[Tensor], Tensor]:
    """Make a variant's student in eval mode."""
    model = student(name, STEPS).eval()
    return caller(name, fold_norms(model, images[:2]) if "folded" in name else model)


def convolutions(images: Tensor) -> Callable[[], object]:
    """Make the convolutions of the student, alone."""
    name = "ours, eager nhwc"
    calls = watched(name, student(name, STEPS).eval(), nn.Conv2d, images)

    def run() -> None:
        for conv, x, _ in calls:
            conv(x)

    return run


@torch.inference_mode()
def main() -> None:
    """Measure and report."""
    start()
    images = torch.randn(BATCH, 3, 32, 32, device=DEVICE)
    models = {name: answering(name, images) for name in (*PEERS, *(ON_CUDA if ON_GPU else ON_CPU))}
    functions: dict[str, Callable[[], object]] = {name: partial(model, images) for name, model in models.items()}
    found = times(functions | {FLOOR: convolutions(images)})
    rows = [
        {"what": name, "images/s": BATCH / t, "of spikingjelly": t / found[PEER], "of floor": t / found[FLOOR]}
        for name, t in found.items()
    ]
    report("inference", f"Inference, ResNet-18, T={STEPS}, batch {BATCH}", rows)


if __name__ == "__main__":
    main()
