"""The settings of neurons and norms."""

from typing import Annotated, Literal

from pydantic import Field

from tser_lightning.kernels.backends import backend_names
from tser_lightning.kernels.spec import Reset
from tser_lightning.kernels.surrogate import SURROGATES
from tser_lightning.schema.setting import Count, OpenUnitInterval, Positive, Settings, UnitInterval, about

ROOM = "tser_lightning.neurons."
# Names that stand in the registries of kernels/ are read there.
Surrogate = Literal[tuple(SURROGATES)]  # type: ignore[valid-type]
Backend = Literal[tuple(backend_names())]  # type: ignore[valid-type]
_SCALES = ", ".join(f"{name} {surrogate.scale:g}" for name, surrogate in SURROGATES.items())


class NeuronSettings(Settings):
    """What every neuron has."""

    v_threshold: Positive = about("fires at V >= v_threshold")


class WithSurrogateSettings(NeuronSettings):
    """A neuron whose gradient at the threshold is chosen."""

    surrogate: Surrogate = about("gradient of the spike at the threshold")  # type: ignore[valid-type]
    surrogate_scale: Positive | None = about(f"its shape parameter; null: its default ({_SCALES})")


class WithResetSettings(NeuronSettings):
    """A neuron that the operators of tser_lightning compute."""

    v_init: float = about("the membrane before the first step", default=0.0)
    reset: Reset = about(
        "after a spike: hard (to 0), soft (minus v_threshold) or soft_delayed (that at the next step, after the decay)"
    )
    detach_reset: bool = about("true: the gradient ignores the reset")
    backend: Backend = about(  # type: ignore[valid-type]
        "auto: triton on a GPU, on a CPU eager, or compiled in a training that is long enough to pay for its warm-up"
    )


class IFSettings(WithSurrogateSettings, WithResetSettings, targets=(f"{ROOM}IF",)):
    """Integrate and fire."""


class LIFSettings(IFSettings, targets=(f"{ROOM}LIF",)):
    """Leaky integrate and fire, Eq. 1 to 3 of the TSER paper."""

    decay: UnitInterval = about("what is left of the membrane after one step")
    decay_input: bool = about("true: V = decay*H + (1-decay)*I (Eq. 2); false: V = decay*H + I (most public code)")


class PLIFSettings(IFSettings, targets=(f"{ROOM}PLIF",)):
    """A learnt leak per layer."""

    decay: OpenUnitInterval = about("where the leak starts")
    decay_input: bool = about("true: V = decay*H + (1-decay)*I; false: V = decay*H + I")


class IMLIFSettings(LIFSettings, targets=(f"{ROOM}IMLIF",)):
    """A current that remembers."""

    attention: OpenUnitInterval = about("where a_t starts")


class LSGSettings(WithResetSettings, targets=(f"{ROOM}LSG",)):
    """A surrogate whose width follows a learnt decay."""

    decay: OpenUnitInterval = about("where the leak starts")
    decay_input: bool = about("true: V = decay*H + (1-decay)*I; false: V = decay*H + I (the paper's)")


class MPBNSettings(WithSurrogateSettings, targets=(f"{ROOM}MPBN",)):
    """BatchNorm on the membrane."""

    decay: UnitInterval = about("what is left of the membrane after one step; V = decay*H + I, hard reset to 0")
    detach_reset: bool = about("true: the gradient ignores the reset")


class ILIFSettings(NeuronSettings, targets=(f"{ROOM}ILIF",)):
    """Integer-valued training: a whole number of spikes at every step."""

    max_spikes: Count = about("D, the most spikes of a neuron at one step, which is run as D binary ones")
    decay: UnitInterval = about("what is left of the membrane after one step; V = decay*H + I")
    v_threshold: Positive = about("what one spike takes from the membrane")
    v_init: float = about("the membrane before the first step", default=0.0)
    detach_reset: bool = about("true: the gradient ignores the reset (the public code's)")


class QCFSSettings(NeuronSettings, targets=(f"{ROOM}QCFS",)):
    """An ANN's activation in training, the IF neuron that it is converted to in evaluation."""

    v_threshold: Positive = about("where the learnt threshold of a layer starts")
    levels: Count = about("L, the levels of the activation; T = L is converted best")


class GLIFSettings(WithSurrogateSettings, targets=(f"{ROOM}GLIF",)):
    """Learnt gates between two forms of leak, input and reset."""

    v_threshold: OpenUnitInterval = about("where the threshold and the soft reset start")
    timesteps: Count = about("conductances are learnt for so many steps; later ones use the last")
    decay: OpenUnitInterval = about("where the exponential leak starts")
    leak: OpenUnitInterval | None = about("where the linear leak starts; null: v_threshold / (2 timesteps)")
    conductance: OpenUnitInterval = about("where the weights of the input start")


class BatchNormSettings(
    Settings, targets=("torch.nn.BatchNorm2d", "torch.nn.SyncBatchNorm", "torch.nn.InstanceNorm2d")
):
    """One set of statistics for all time steps."""

    eps: Positive = about("added to the variance")
    momentum: Annotated[float, Field(ge=0, le=1)] | None = about(
        "share of a batch in the running statistics; null: their plain mean"
    )


class TDBNSettings(BatchNormSettings, targets=("tser_lightning.models.TDBN",)):
    """Scaled by the threshold of the neurons."""

    v_threshold: Positive = about("that of the neurons")


class TEBNSettings(BatchNormSettings, targets=("tser_lightning.models.TEBN",)):
    """A learnt weight for every time step."""

    timesteps: Count = about("weights; later steps use the last one")


class BNTTSettings(BatchNormSettings, targets=("tser_lightning.models.BNTT",)):
    """Statistics and weights of its own for every time step."""

    timesteps: Count = about("statistics and weights; later steps use the last one's")


class TABSettings(BatchNormSettings, targets=("tser_lightning.models.TAB",)):
    """Statistics of all steps so far."""

    timesteps: Count = about("statistics and weights; later steps use the last one's")
