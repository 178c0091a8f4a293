"""How Lightning reads and writes checkpoint files here: whole or not at all, and nothing in them is run."""

from pathlib import Path
from typing import Any

from lightning_fabric.plugins import TorchCheckpointIO

from training.checkpoint import read, write


class CheckpointFiles(TorchCheckpointIO):
    """`training.checkpoint.read` and `write` as Lightning's plugin."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        write(checkpoint, Path(path))

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read(Path(path))
