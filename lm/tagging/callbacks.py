"""What a tagger makes of some sentences: in TensorBoard after each validation."""

from lm.tagging.data import TaggedWords
from lm.tagging.learner import TaggingLearner
from unroll.lightning import pl
from unroll.training.callbacks.tensorboard import writers

SHOWN, WORDS = 5, 60


class TaggedSamples(pl.Callback):
    """The first sentences of validation with their predicted labels; behind those that are wrong, the right ones."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        all_writers = writers(trainer)
        if not all_writers or trainer.sanity_checking:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(data, TaggedWords)
        assert isinstance(pl_module, TaggingLearner)
        words = next(data.valid.batches(0)).inputs[..., 0].tolist()
        entries = data.encoder.words.entries
        lines = []
        for row, (true, predicted) in zip(words, pl_module.read_labels[:SHOWN], strict=False):
            named = zip((entries[number] for number in row[:WORDS]), true, predicted, strict=False)
            shown = (
                f"{word}/{guess}" if truth == guess else f"**{word}/{guess}** (not {truth})"
                for word, truth, guess in named
            )
            lines.append(" ".join(shown))
        for writer in all_writers:
            writer.add_text("validation", "\n\n".join(lines), trainer.global_step)
