"""The errors whose message is meant for a person. Exit statuses hang on their class."""


class BatonError(Exception):
    """Something failed and one sentence says what. `python -m steps.<name>` exits with 1."""

    exit_status = 1


class BadInput(BatonError):
    """The data, the config or a parameter is wrong. `python -m steps.<name>` exits with 2."""

    exit_status = 2


class StepFailed(BatonError):
    """A step that main started has failed; carries that step's sentence and exit status."""

    def __init__(self, step: str, sentence: str, exit_status: int):
        super().__init__(f"{step}: {sentence}")
        self.exit_status = exit_status if exit_status in (1, 2) else 1


class Diverged(BatonError):
    """A training run whose loss is no longer a finite number."""


class WorkerLost(BatonError):
    """Workers ended without saying why: killed, or cut off. Training can go on from its checkpoint."""
