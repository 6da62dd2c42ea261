"""What `task=` names: a module for each, whose function of the same name is called with a checked command.

A new task is a file `conf/task/NAME.yaml` and a module
`tser_lightning/tasks/NAME.py` with `def NAME(run: Run) -> dict`.
"""
