"""What one classification costs on 45 nm hardware, from counted operations."""

from tser_lightning.measure.operations import Count, Operations

PJ_PER_AC = 0.9
PJ_PER_MAC = 4.6

ASSUMPTIONS = """\
Energy counts arithmetic alone, at 45 nm, 32-bit floating point: 0.9 pJ for an accumulation (AC), 4.6 pJ for a
multiplication with accumulation (MAC) (Horowitz, ISSCC 2014); no memory access, no control, no neuron update, no
residual addition, no activation function. Per image, over all its time steps, mean over the data.
Both conventions: a layer whose input is binary (all values 0 or 1 over all the data) does ACs, any other does MACs;
integer inputs, as after the ADD of SEW-ResNet, do MACs. Where neurons put out numbers of spikes (I-LIF), which run as
binary steps, an integer input of k is k spikes and does k ACs. Where spikes weigh something else than 1 (QCFS), an
input of 0 and one other value is binary: the weights take the factor in.
Paper's convention (energy_mj; reproduces the OPs and MACs of Table 4): operations of a convolution or linear layer are
kernel MACs, padding included, and one per bias; ACs are operations times the share of the input that spikes; a norm is
2 MACs per value; a pooling is one operation per input value; what comes before the first neuron is charged at every
time step although it is computed once.
Folded convention (energy_folded_mj): BatchNorm is folded into the weights and costs nothing, nor do biases and
poolings; what comes before the first neuron is charged once per static image; ACs are the weights that spikes meet,
padding left out (the synaptic operations that SpikingJelly counts).
Products of two activations (attention) count the same in both: one AC per coincidence of two spikes, or per spike and
value of the other factor, or else MACs.
The ANN teacher does all its operations as MACs.
"""


def energy_mj(count: Count) -> float:
    """Compute the energy of one image in mJ from its operations.

    Args:
        count: Operations of an image.

    Returns:
        0.9 pJ for each accumulation and 4.6 pJ for each multiplication with accumulation, in mJ.

    Source:
        Horowitz, ISSCC 2014, 45 nm; Table 4 of the TSER paper.

    Examples:
        >>> from tser_lightning.measure import Count
        >>> energy_mj(Count(ops=2e9, ac=1e9, mac=1e9))  # 0.9 + 4.6
        5.5
    """
    return (PJ_PER_AC * count.ac + PJ_PER_MAC * count.mac) * 1e-9


def student_energy(operations: Operations) -> dict[str, float]:
    """Name what a student costs per image, by both conventions of `ASSUMPTIONS`.

    Args:
        operations: Of a student, as `OperationCounter.compute` gives them.

    Returns:
        `energy_mj`, `ops`, `acs` and `macs` by the paper's convention; `energy_folded_mj`, `ops_folded`, `acs_folded`
        and `macs_folded` by the folded one.

    Examples:
        >>> from tser_lightning.measure import Count, LayerOperations, Operations
        >>> layer = LayerOperations("linear", "binary", 25.0, paper=Count(1e6, 2.5e5, 0), folded=Count(1e6, 2.5e5, 0))
        >>> cost = student_energy(Operations({"fc": layer}, ()))
        >>> round(cost["energy_mj"], 9), cost["acs"], cost["macs"]  # 250,000 of 0.9 pJ
        (0.000225, 250000.0, 0)
    """
    paper, folded = operations.paper, operations.folded
    return {
        "energy_mj": energy_mj(paper),
        "energy_folded_mj": energy_mj(folded),
        "ops": paper.ops,
        "acs": paper.ac,
        "macs": paper.mac,
        "ops_folded": folded.ops,
        "acs_folded": folded.ac,
        "macs_folded": folded.mac,
    }


def teacher_energy(operations: Operations) -> dict[str, float]:
    """Name what an ANN teacher costs per image: all its operations are MACs.

    Args:
        operations: Of the teacher, as `OperationCounter.compute` gives them.

    Returns:
        `teacher_energy_mj` and `teacher_macs`; with BatchNorm folded, `teacher_energy_folded_mj` and
        `teacher_macs_folded`.

    Examples:
        >>> from tser_lightning.measure import Count, LayerOperations, Operations
        >>> layer = LayerOperations("linear", "analog", 100.0, paper=Count(1e6, 0, 1e6), folded=Count(1e6, 0, 1e6))
        >>> round(teacher_energy(Operations({"fc": layer}, ()))["teacher_energy_mj"], 9)  # 1,000,000 of 4.6 pJ
        0.0046
    """
    paper, folded = operations.paper.ops, operations.folded.ops
    return {
        "teacher_energy_mj": energy_mj(Count(paper, 0, paper)),
        "teacher_energy_folded_mj": energy_mj(Count(folded, 0, folded)),
        "teacher_macs": paper,
        "teacher_macs_folded": folded,
    }
