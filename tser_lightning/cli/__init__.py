"""The command line: Hydra in, plain arguments out."""
