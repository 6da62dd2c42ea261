"""Distil a frozen ANN teacher into a spiking student."""
