"""One command that shows on a GPU what was only ever shown on a CPU: `make gpu-check`.

A module per part, each run in a process of its own (see `parts`). `lines` is what they report, `page` what a person
sees of it.
"""
