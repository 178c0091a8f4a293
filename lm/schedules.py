"""`training.schedules`, by the name that configurations of older runs know it by."""

from training.schedules import constant, cycle_ends, one_cycle, sgdr, steps

__all__ = ["constant", "cycle_ends", "one_cycle", "sgdr", "steps"]
