"""Checkpoint files in Lightning: written whole or not at all, and read without running anything in them."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from unroll.resume.checkpoint import read, write


class CheckpointFiles(TorchCheckpointIO):
    """A plugin for `Trainer(plugins=[CheckpointFiles()])` (see `unroll.resume.checkpoint.read` and `write`)."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read(Path(path))
