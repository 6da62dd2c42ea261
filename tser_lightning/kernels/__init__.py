"""How a neuron is computed: one step of it, its surrogate gradients, the backends, torch's operators, spikes as bits.

Functions of tensors and plain numbers; no module of torch's is known here. What a neuron is stands in `neurons`.
"""
