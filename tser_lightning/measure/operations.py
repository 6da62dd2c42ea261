"""Operations of a network, layer by layer, under two conventions.

`energy.ASSUMPTIONS` says what the conventions are.
"""

from dataclasses import dataclass

from tser_lightning.measure.cost import Sums


@dataclass(frozen=True)
class Count:
    """Operations of one image, summed over all its time steps.

    Attributes:
        ops: What the dense layer would do: every weight at every step.
        ac: Accumulations: of the operations, those that spikes call for.
        mac: Multiplications with accumulation: the operations of layers whose input is no spikes.

    Examples:
        >>> Count(ops=100, ac=25, mac=0) + Count(ops=50, ac=0, mac=50)
        Count(ops=150, ac=25, mac=50)
    """

    ops: float
    ac: float
    mac: float

    def __add__(self, other: "Count") -> "Count":
        return Count(self.ops + other.ops, self.ac + other.ac, self.mac + other.mac)


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one layer.

    Attributes:
        kind: conv, linear, norm, pool or product (a matrix product of two activations, in an attention).
        input: binary, integer (as after the ADD of SEW) or analog; of both factors of a product; None for a norm.
        rate: Share of the input values that are not 0, in percent; None for a norm.
        paper: By the paper's convention.
        folded: By the folded convention.

    Examples:
        >>> from tser_lightning.measure import Count
        >>> layer = LayerOperations("conv", "binary", 25.0, paper=Count(1000, 250, 0), folded=Count(1000, 240, 0))
        >>> layer.paper.ac, layer.folded.ac  # the padding, at which no spike comes in
        (250, 240)
    """

    kind: str
    input: str | None
    rate: float | None
    paper: Count
    folded: Count


@dataclass(frozen=True)
class Operations:
    """Operations of a whole network.

    Attributes:
        layers: By module path, in the order of the network. A product is its module's path and `.product1` etc.
        uncounted: Where something multiplies that no rule counts: "path: function".

    Examples:
        >>> from tser_lightning.measure import Count, LayerOperations
        >>> stem = LayerOperations("conv", "analog", 100.0, paper=Count(400, 0, 400), folded=Count(100, 0, 100))
        >>> fc = LayerOperations("linear", "binary", 25.0, paper=Count(200, 50, 0), folded=Count(200, 50, 0))
        >>> Operations({"conv1": stem, "fc": fc}, ()).paper
        Count(ops=600, ac=50, mac=400)
    """

    layers: dict[str, LayerOperations]
    uncounted: tuple[str, ...]

    @property
    def paper(self) -> Count:
        """The sum over the layers by the paper's convention."""
        return sum((layer.paper for layer in self.layers.values()), Count(0, 0, 0))

    @property
    def folded(self) -> Count:
        """The sum over the layers by the folded convention."""
        return sum((layer.folded for layer in self.layers.values()), Count(0, 0, 0))


def layer_operations(kind: str, cost: Sums, structure: Sums, images: int, counts: bool = False) -> LayerOperations:
    """Turn what a layer cost into operations per image.

    Args:
        kind: As in `LayerOperations`.
        cost: The sums over all the data.
        structure: What the same layer cost in a call with random spikes, which tell an analog input that is 0 or 1
            everywhere by chance from a binary one. Empty for an ANN.
        images: Number of images in `cost`.
        counts: Whether a whole number stands for so many spikes (`Neuron.max_spikes`).
    """
    cost = cost | {name: cost[name] + structure.get(name, 0) for name in cost if "not_" in name}
    ops, folded = cost["ops"], cost["ops_folded"]
    if kind == "norm":
        return LayerOperations(kind, None, None, _count(ops, None, images), _count(folded, None, images))
    rate = cost["nonzero"] / cost["inputs"]
    acs = _accumulations(cost, counts)
    names = [_value_kind(cost[f"{side}not_binary"], cost[f"{side}not_integer"]) for side in _sides(kind)]
    share = cost.get("spikes", 0) / cost["inputs"]
    as_paper = acs if kind == "product" or acs is None else ops * share
    return LayerOperations(
        kind, " x ".join(names), 100 * rate, _count(ops, as_paper, images), _count(folded, acs, images)
    )


def _sides(kind: str) -> tuple[str, ...]:
    return ("", "right_") if kind == "product" else ("",)


def _value_kind(not_binary: int, not_integer: int) -> str:
    return "analog" if not_integer else "integer" if not_binary else "binary"


def _accumulations(cost: Sums, counts: bool) -> int | None:
    """Accumulations where spikes stand for multiplications; None where they do not."""
    other = "not_integer" if counts else "not_binary"
    left, right = not cost[other], not cost.get(f"right_{other}", 1)
    if left:
        return cost["acs_both"] if right else cost["acs"]
    return cost["acs_right"] if right else None


def _count(ops: int, acs: float | None, images: int) -> Count:
    return Count(ops / images, 0 if acs is None else acs / images, ops / images if acs is None else 0)
