"""Many runs of one command: its jobs, what is missing of them, the slots that they run in."""
