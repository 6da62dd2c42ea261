"""The errors that end in three lines and not in a traceback: the user's, and those of a run."""


class UsageError(ValueError):
    """Something in a command, a config or a file that only the user can mend.

    The command line answers with three lines and exit code 2 in place of a traceback.

    Args:
        what: What is wrong, e.g. "loss.tau=-1 is not above 0".
        why: Why that cannot work.
        fix: What to type instead.

    Examples:
        >>> print(UsageError("tau = -1 is not above 0", "logits are divided by it", "give tau > 0, for example 5"))
        tau = -1 is not above 0
          why: logits are divided by it
          try: give tau > 0, for example 5
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}\n  why: {why}\n  try: {fix}")
        self.what, self.why, self.fix = what, why, fix


class RunError(RuntimeError):
    """A run that cannot go on through no mistake in its command (a NaN loss, a lost device); exit code 1.

    Args:
        what: What happened, and where.
        why: The usual cause.
        fix: What to do now.

    Examples:
        >>> error = RunError("the loss is nan", "the learning rate is too high", "a lower lr")
        >>> error.what, error.fix
        ('the loss is nan', 'a lower lr')
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}\n  why: {why}\n  try: {fix}")
        self.what, self.why, self.fix = what, why, fix


BUSY = 75  # the exit code of EX_TEMPFAIL in sysexits.h: try again later


class Busy(RunError):
    """Another process does the same work; exit code 75, at which a sweep waits and tries again."""


class Pruned(Exception):
    """A run that its sweep has ended early, as it was asked to; exit code 0."""
