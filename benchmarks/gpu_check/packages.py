"""What the check needs of the machine, told before anything is imported."""

from importlib.util import find_spec

NEEDED = ("torch", "numpy", "lightning", "torchmetrics", "safetensors", "rich")
ON_A_GPU = ("triton",)
PEER = "spikingjelly"


def missing(on_gpu: bool) -> list[str]:
    """Names of the packages without which the check cannot run."""
    return [name for name in (*NEEDED, *(ON_A_GPU if on_gpu else ())) if find_spec(name) is None]


def told(absent: list[str]) -> str:
    """What to do about packages that are not here, also without a network."""
    names = " ".join(absent)
    return (
        f"gpu-check needs packages that this Python does not have: {names}\n"
        f"With a network: pip install {names}\n"
        f"Without: where there is one, pip download --dest wheels {names}; "
        f"here, pip install --no-deps wheels/*\n"
        f"Another Python: PYTHON=.venv/bin/python make gpu-check. For the comparison with {PEER}, bring it too."
    )
