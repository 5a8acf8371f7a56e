"""What plan.py prints: bytes of a training step, what else a machine must hold, tokens and hours, what would fit."""
