"""Keep spikes for the backward pass as bits: a 32nd of the memory, and the same numbers.

A convolution keeps its input, and the input of most convolutions of a student is spikes. Inside `packed_spikes` every
tensor that autograd keeps is packed if it is known to be spikes, whoever keeps it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F

_known: ContextVar["dict[int, _Spikes] | None"] = ContextVar("spikes that may be packed", default=None)


class _Spikes:
    """Memory that holds numbers of spikes alone, as long as nobody writes to it, packed once that is needed.

    Numbers up to 1 are packed as bits, up to 255 as bytes.
    """

    def __init__(self, spikes: Tensor, most: int) -> None:
        self.most = most
        self.reference = StorageWeakRef(spikes.untyped_storage())  # keeps the identity from being given away again
        self.version = spikes._version
        self.packed: Tensor | None = None

    def pack(self, spikes_M: Tensor) -> Tensor:
        return to_bits(spikes_M) if self.most == 1 else spikes_M.to(torch.uint8)


class _Packed(NamedTuple):
    """Bits or bytes, and the form that they had."""

    packed: Tensor
    most: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]

    def unpack(self) -> Tensor:
        bits = self.most == 1
        numbers = from_bits(self.packed, self.size.numel(), self.dtype) if bits else self.packed.to(self.dtype)
        return numbers.as_strided(self.size, self.stride)


@contextmanager
def packed_spikes() -> Iterator[None]:
    """Let what runs inside keep the spikes of LIF, IF and PLIF neurons as bits, those of I-LIF as bytes.

    Spikes that were changed in place, are part of a larger tensor or are expanded stay as they are.
    """
    token = _known.set({})
    try:
        with torch.autograd.graph.saved_tensors_hooks(_pack, _unpack):
            yield
    finally:
        _known.reset(token)


def is_spikes(tensor: Tensor, most: int = 1) -> Tensor:
    """Mark a tensor as holding numbers of spikes alone, and return it; no effect under torch.compile.

    Args:
        tensor: Of whole numbers.
        most: The largest that there may be; above 255 they stay as they are.
    """
    known = None if torch.compiler.is_compiling() else _known.get()
    if known is not None and tensor.numel() and not tensor.is_inference() and most <= 255:
        spikes = _Spikes(tensor, most)
        known[spikes.reference.cdata] = spikes
    return tensor


def contiguous(tensor: Tensor) -> Tensor:
    """A tensor in contiguous memory; of a copy of spikes it is known that it holds spikes."""
    copy = tensor.contiguous()
    known = None if copy is tensor or torch.compiler.is_compiling() else _found(tensor)
    return copy if known is None else is_spikes(copy, known.most)


def _found(tensor: Tensor) -> _Spikes | None:
    """What is known of a tensor, if it holds spikes and is all of its memory."""
    known = _known.get()
    if not known or not tensor.is_floating_point() or not tensor.numel():
        return None
    spikes = known.get(tensor.untyped_storage()._cdata)
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return spikes if spikes and whole and spikes.version == tensor._version and not _overlaps(tensor) else None


def _pack(tensor: Tensor) -> Tensor | _Packed:
    spikes = _found(tensor)
    if spikes is None:
        return tensor
    if spikes.packed is None:
        spikes.packed = spikes.pack(tensor.detach().as_strided((tensor.numel(),), (1,)))
    return _Packed(spikes.packed, spikes.most, tensor.dtype, tensor.size(), tensor.stride())


def _overlaps(tensor: Tensor) -> bool:
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.size(), tensor.stride(), strict=True))


def _unpack(kept: Tensor | _Packed) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept.unpack()


def to_bits(spikes_M: Tensor) -> Tensor:
    """Pack 0 and 1 into uint8 [ceil(M / 8)], the first in the lowest bit.

    A product with the powers of two: one pass over memory, on every device. float32 holds its sums exactly.
    """
    spare = -len(spikes_M) % 8
    padded = F.pad(spikes_M, (0, spare)) if spare else spikes_M
    wide = padded if padded.dtype == torch.float64 else padded.float()
    return (wide.view(-1, 8) @ _powers(wide.dtype, wide.device)).to(torch.uint8)


def from_bits(bits: Tensor, numel: int, dtype: torch.dtype) -> Tensor:
    """Unpack `to_bits`: [numel] of 0 and 1."""
    return _bytes(dtype, bits.device).index_select(0, bits.int()).view(-1)[:numel]


@cache
def _powers(dtype: torch.dtype, device: torch.device) -> Tensor:
    return 2 ** torch.arange(8, dtype=dtype, device=device)


@cache
def _bytes(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The bits of every byte, [256, 8]."""
    bytes_256 = torch.arange(256, device=device)[:, None]
    return ((bytes_256 >> torch.arange(8, device=device)) & 1).to(dtype)
