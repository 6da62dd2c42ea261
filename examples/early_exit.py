"""Stop at the step at which the answer is sure.

    python examples/early_exit.py

`python -m tser_lightning task=predict run=runs/NAME input=FOLDER` does it with a finished run.
"""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.deploy.early_exit import fit_exit, predict
from tser_lightning.training import Recipe, fit

if __name__ == "__main__":
    torch.manual_seed(1)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759], validation=0.2, batch_size=64)
    student = tl.build_student("cnn_small", in_channels=1, timesteps=4)
    recipe = Recipe(epochs=3, optimizer=partial(torch.optim.AdamW, lr=0.01))
    with TemporaryDirectory() as folder:
        fit(student, tl.build_loss("tet"), None, data, Path(folder), recipe=recipe)
    student.eval()

    # By hand: a step is computed when it is asked for.
    (batch,) = data.loader("test")
    mean_BC, steps = torch.zeros(1, 10), 0
    with torch.no_grad():
        for logits_BC in student.stream(batch.images[:1]):
            mean_BC, steps = mean_BC + (logits_BC - mean_BC) / (steps + 1), steps + 1
            if mean_BC.softmax(-1).max() > 0.9:
                break
    print(f"the first image is a {int(mean_BC.argmax())}: {steps} of {student.timesteps} steps")

    # For many images: the threshold is fitted on validation images, those that are decided leave the batch.
    with torch.no_grad():
        held_out = [(student(part.images), part.labels) for part in data.loader("val")]
    logits_TBC, labels_B = torch.cat([logits for logits, _ in held_out], dim=1), torch.cat([y for _, y in held_out])
    rule = fit_exit(logits_TBC, labels_B, max_loss=1.0, bound="none")
    for name, found in {
        "all steps": predict(student, batch.images),
        "early": predict(student, batch.images, rule),
    }.items():
        right = 100 * (found.classes == batch.labels).double().mean()
        print(f"{name}: accuracy {right:.1f} %, {found.steps.double().mean():.2f} steps an image")
