"""What every data module has: two splits, batch by batch, for one process or several."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from training.resumable import Resumable

DEVICE_SHARE = 0.25  # of a device's free memory that a split may take
ONE_SIZE = 1


class Data(pl.LightningDataModule, ABC):
    """Batches to train and to validate on: after `setup()`, in `train` and `valid`."""

    batch_size: int
    train: Resumable
    valid: Resumable
    lengths: tuple[int, ...] = (ONE_SIZE,)  # of a sample, that `task=plan` tries

    @abstractmethod
    def prepare(self) -> None:
        """Reads what there is, and makes both."""

    @abstractmethod
    def model_arguments(self) -> dict[str, int]:
        """The arguments of a model that the data decide."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What belongs to a model in its checkpoint: plain names, numbers and strings."""

    @abstractmethod
    def summary(self) -> str:
        """One line for people: how much there is."""

    @abstractmethod
    def show(self, folder: Path) -> str:
        """The first training batches, for people; pictures go into the folder."""

    @abstractmethod
    def random_batch(self, rows: int, length: int) -> Any:
        """As many samples, of this length, of noise."""

    def setup(self, stage: str | None = None) -> None:
        if not hasattr(self, "valid"):  # train.py needs it before Lightning asks
            self.prepare()

    def train_dataloader(self) -> Resumable:
        return self.shard(self.train)

    def val_dataloader(self) -> Resumable:
        return self.shard(self.valid)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Lightning's, which takes a tenth of a millisecond even where there is nothing to do."""
        return batch if batch[0].device == device else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def shard(self, batches: Resumable) -> Resumable:
        """This process's share of each batch, from the device that trains if the split fits there."""
        if self.trainer is None:
            return batches
        share = batches.shard(self.trainer.global_rank, self.trainer.world_size)
        device = self.trainer.strategy.root_device
        if device.type == "cuda":
            if share.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                share.move(device)
            else:
                share.pin = True
        return share
