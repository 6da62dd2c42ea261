"""Write a student as ONNX, with images and its own logits for them; run_onnx.py runs the file without this package.

    python examples/export_onnx.py && python examples/run_onnx.py

`python -m tser_lightning task=export run=runs/NAME format=onnx` writes a finished run and proves the file.
"""

from pathlib import Path

import numpy as np
import torch

import tser_lightning as tl
from tser_lightning.data import Digits
from tser_lightning.deploy.export_onnx import write_onnx

if __name__ == "__main__":
    torch.manual_seed(1)
    data = Digits(num_classes=10, shape=[1, 8, 8], mean=[0.3055], std=[0.3759])
    student = tl.build_student("cnn_small", in_channels=1, timesteps=2, widths=[4, 8])
    images_BCHW = next(iter(data.loader("test", batch_size=32))).images
    student(images_BCHW)  # in training mode: its norms see some images. A trained student is loaded in its place
    student.eval()
    write_onnx(student, images_BCHW, Path("student.onnx"))
    np.save("images.npy", images_BCHW.numpy())
    with torch.no_grad():
        np.save("logits.npy", student(images_BCHW).numpy())
    print("student.onnx, images.npy and logits.npy are written")
