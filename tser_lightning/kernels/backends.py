"""The backends that compute LIF neurons: modules with the four functions of `dispatch.Backend`, by name.

eager      torch, block by block; the one on a CPU, everywhere.
compiled   fused by torch.compile; needs a C++ compiler (or a GPU), some seconds at the first call.
triton     two kernels, three or four with a norm before the neurons; needs a GPU.
reference  plain operations and autograd (`reference.lif_reference`).
auto       triton on a GPU where it gives eager's numbers, else eager; a long training on a CPU settles on eager or
           compiled before its first step (`training.backend_choice`).
"""

MODULES = {
    "eager": "tser_lightning.kernels.backend_eager",
    "compiled": "tser_lightning.kernels.backend_compiled",
    "triton": "tser_lightning.kernels.backend_triton",
}
"""Where a backend stands, by its name; imported when it is first used. One of your own: one entry more."""


def backend_names() -> tuple[str, ...]:
    """List the names that `backend` may have.

    Returns:
        `auto`, the keys of `MODULES`, and `reference`.

    Examples:
        >>> backend_names()
        ('auto', 'eager', 'compiled', 'triton', 'reference')
    """
    return ("auto", *MODULES, "reference")


def check_backend(name: str) -> None:
    """Check the name of a backend.

    Args:
        name: What a neuron was given as its backend.

    Raises:
        ValueError: It is unknown; says which there are.

    Examples:
        >>> check_backend("eager")
        >>> check_backend("cuda")
        Traceback (most recent call last):
        ValueError: backend='cuda' is not one of auto, eager, compiled, triton, reference
    """
    if name not in backend_names():
        raise ValueError(f"backend={name!r} is not one of {', '.join(backend_names())}")
