import pytest
import torch

from tser_lightning.training.deferred_scalars import DeferredScalars


def test_on_a_cpu_every_number_comes_at_once() -> None:
    late: DeferredScalars[str] = DeferredScalars()
    assert late.next(torch.tensor([1.5]), "a") == [([1.5], "a")]
    assert late.next(torch.tensor([2.5]), "b") == [([2.5], "b")]
    assert late.rest() == []


def test_what_waits_comes_before_the_next_and_once() -> None:
    late: DeferredScalars[str] = DeferredScalars()
    late._waiting = [(torch.tensor([1.5]), None, "a")]
    assert late.next(torch.tensor([2.5]), "b") == [([1.5], "a"), ([2.5], "b")]
    late._waiting = [(torch.tensor([3.5]), None, "c")]
    assert late.rest() == [([3.5], "c")]
    assert late.rest() == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_number_comes_one_call_later() -> None:
    late: DeferredScalars[str] = DeferredScalars()
    assert late.next(torch.tensor([1.5], device="cuda"), "a") == []
    assert late.next(torch.tensor([2.5], device="cuda"), "b") == [([1.5], "a")]
    assert late.rest() == [([2.5], "b")]
