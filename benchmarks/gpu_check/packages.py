"""What the check needs of the machine, told before anything is imported."""

from importlib.util import find_spec

# Modules and their packages, with what lightning imports besides: wheels come without what they depend on, because a
# download of lightning alone would bring another torch.
NEEDED = {
    "torch": "torch",
    "numpy": "numpy",
    "lightning": "lightning",
    "lightning_utilities": "lightning-utilities",
    "fsspec": "fsspec",
    "packaging": "packaging",
    "yaml": "PyYAML",
    "tqdm": "tqdm",
    "typing_extensions": "typing-extensions",
    "torchmetrics": "torchmetrics",
    "safetensors": "safetensors",
    "rich": "rich",
}
ON_A_GPU = {"triton": "triton"}
PEER = "spikingjelly"


def missing(on_gpu: bool) -> list[str]:
    """Names of the packages without which the check cannot run."""
    needed = NEEDED | (ON_A_GPU if on_gpu else {})
    return [package for module, package in needed.items() if find_spec(module) is None]


def told(absent: list[str]) -> str:
    """What to do about packages that are not here, also without a network."""
    names = " ".join(absent)
    return (
        f"gpu-check needs packages that this Python does not have: {names}\n"
        f"With a network: pip install {names}\n"
        f"Without: where there is one, with the same Python, pip download --no-deps --dest wheels {names}; "
        f"here, pip install --no-deps wheels/*\n"
        f"Another Python: PYTHON=.venv/bin/python make gpu-check. For the comparison with {PEER}, bring it too."
    )
