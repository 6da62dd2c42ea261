"""Start from a checkpoint of other people's code: SEW-ResNet-18, as the code of its authors saves it.

    python examples/published_checkpoint.py [sew18_checkpoint.pth]

Without a file, one with random weights is written under the authors' names, so that nothing has to be downloaded. What
other files can be read: docs/deploy.md. In a command: student=sew_resnet18 neuron=if student.weights=FILE.
"""

import logging
import re
import sys
from pathlib import Path

import torch

import tser_lightning as tl

NAMES = {  # ours, and the authors'
    r"(layer\d\.\d)\.conv(\d)\.": r"\1.conv\2.module.0.",
    r"(layer\d\.\d)\.bn(\d)\.": r"\1.conv\2.module.1.",
    r"(layer\d\.\d\.downsample)\.": r"\1.0.module.",
}


def write_checkpoint(file: Path) -> None:
    """Write random weights under the names that the authors' code gives them."""
    state = tl.build_student("sew_resnet18", num_classes=10, neuron="if", stem="imagenet").net.state_dict()
    for ours, theirs in NAMES.items():
        state = {re.sub(f"^{ours}", theirs, name): value for name, value in state.items()}
    torch.save({"model": state, "epoch": 319}, file)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(1)
    file = Path(sys.argv[1] if len(sys.argv) > 1 else "sew18_checkpoint.pth")
    if not file.exists():
        write_checkpoint(file)
    student = tl.build_student(
        "sew_resnet18", num_classes=10, neuron="if", stem="imagenet", timesteps=4, weights=str(file)
    )
    with torch.no_grad():
        logits_TBC = student.eval()(torch.randn(2, 3, 64, 64))
    print("logits of 2 images at each of 4 steps:", list(logits_TBC.shape))
