"""The plugin by which Lightning writes checkpoints whole or not at all, and runs nothing of what it reads."""

from pathlib import Path
from typing import Any

from unroll.lightning import imported, pl
from unroll.resume.checkpoint import read, write


class CheckpointFiles(pl.plugins.TorchCheckpointIO):
    """How Lightning reads and writes checkpoints (`unroll.resume.checkpoint.read` and `write`).

    Use: `Trainer(plugins=[CheckpointFiles()])`.
    """

    def __init__(self) -> None:
        super().__init__()
        for lightning in imported():  # each of them asks whether this is a CheckpointIO of its own
            lightning.plugins.CheckpointIO.register(CheckpointFiles)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read(Path(path))
