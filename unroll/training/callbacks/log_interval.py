"""Which training batches end a step that is logged."""

from unroll.lightning import pl


class LogInterval:
    """Whether a training batch has ended an optimizer step that is logged, one of every `log_every_n_steps`.

    Where gradients are accumulated, several batches make a step; the trainer's `global_step` is that of the step before
    for all but the last of them.

    Args:
        trainer: when training starts.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        self.step = trainer.global_step

    def ended(self, trainer: pl.Trainer) -> bool:
        """To be asked at the end of each training batch, once."""
        before, self.step = self.step, trainer.global_step
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        return self.step > before and self.step % every == 0
