"""What the training stage is made of: building the model, its optimiser, checkpoints, trackers, FLOP."""

from dpr_mini.types import UserError


class TrainError(UserError, RuntimeError):
    """Training that cannot start or must not go on: one line that says why."""
