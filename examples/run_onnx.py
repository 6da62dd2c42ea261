"""Run what export_onnx.py has written. NumPy and onnxruntime are all that is needed.

    python examples/run_onnx.py

The images in images.npy are normalised already: mean and std belong to the program that uses the file.
"""

import numpy as np
import onnxruntime

if __name__ == "__main__":
    session = onnxruntime.InferenceSession("student.onnx")
    (logits_TBC,) = session.run(["logits"], {"images": np.load("images.npy")})
    classes_B = logits_TBC.mean(0).argmax(-1)
    difference = abs(logits_TBC - np.load("logits.npy")).max()
    print(
        f"{len(classes_B)} images, the first of class {classes_B[0]}; largest difference of a logit: {difference:.1e}"
    )
