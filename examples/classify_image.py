"""Load the student of a finished run and classify an image file.

    python examples/classify_image.py

The run is a short one on digits, and the image a digit of the test split. Loading needs neither Lightning nor Hydra.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import tser_lightning as tl

if __name__ == "__main__":
    settings = ["loss=tet", "teacher=none", "student.timesteps=2", "trainer.epochs=3", "logging.wandb.mode=disabled"]
    tl.train("digits", overrides=settings)
    run = max(Path("runs").glob("digits-*/student.safetensors"), key=lambda file: file.stat().st_mtime).parent

    digit = np.asarray(load_digits().images[3])  # 8x8, values from 0 to 16
    Image.fromarray((digit * 255 / 16).astype(np.uint8)).save("digit.png")

    student = tl.load_student(run)
    found = student.predict(student.image("digit.png"))
    best = int(found.classes[0])
    print(f"digit.png: {student.classes[best]}, probability {float(found.probabilities[0, best]):.2f}")
