"""The plugin by which Lightning writes checkpoints whole or not at all, and runs nothing of what it reads."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from unroll.resume.checkpoint import read, write


class CheckpointFiles(TorchCheckpointIO):
    """How Lightning reads and writes checkpoints (`unroll.resume.checkpoint.read` and `write`).

    Use: `Trainer(plugins=[CheckpointFiles()])`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read(Path(path))
