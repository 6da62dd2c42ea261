"""From a command to checked, resolved, plain settings: Hydra in, dicts out, every mistake in a command. No torch."""
