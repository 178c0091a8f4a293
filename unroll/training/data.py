"""What every data module of `unroll.cli` has: a training and a validation split, for one process or several."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from unroll.errors import UserError
from unroll.lightning import pl
from unroll.resume.lightning import root_device
from unroll.streams import Resumable

DEVICE_SHARE = 0.25  # of a device's free memory that a split may take


class Data(pl.LightningDataModule, ABC):
    """Batches to train and to validate on. Subclasses read a split when it is first asked for, and keep it."""

    batch_size: int
    meaning: ClassVar[tuple[str, ...]] = ()  # the parts of `description` that a model's inputs and outputs refer to

    @property
    @abstractmethod
    def train(self) -> Resumable:
        """The training split."""

    @property
    @abstractmethod
    def valid(self) -> Resumable:
        """The validation split."""

    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """The arguments of a model that the data determine, such as the size of a vocabulary."""

    def learner_arguments(self) -> dict[str, Any]:
        """The arguments of the LightningModule that the data determine."""
        return {}

    def initialise(self, model: nn.Module, path: Path) -> str:
        """Gives a new model the weights of a trained one, as `init=CKPT` asks. Returns what is to be said of it.

        Raises:
            UserError: they can't be taken up.
        """
        raise UserError("init=…: a model of these data can't begin with the weights of another")

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """What a checkpoint needs of the data to use the model without them: plain names, numbers and strings."""

    def as_in(self, description: Mapping[str, Any]) -> None:
        """Takes over what a checkpoint has of the data it was trained on, before it is evaluated on these.

        A subclass keeps what it would otherwise determine by its own training split: a scale, a vocabulary, classes.

        Args:
            description: as the checkpoint's data module made it.
        """

    @abstractmethod
    def summary(self) -> str:
        """One line: how much data there is."""

    @abstractmethod
    def show(self, folder: Path) -> str:
        """The first training batches as text; images go into the folder."""

    def train_dataloader(self) -> Resumable:
        return self.shard(self.train)

    def val_dataloader(self) -> Resumable:
        return self.shard(self.valid)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Lightning's, which takes a tenth of a millisecond even where there is nothing to do."""
        return batch if batch[0].device == device else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def shard(self, batches: Resumable) -> Resumable:
        """This process's share of each batch, kept on the device that trains if the split fits there."""
        if self.trainer is None:
            return batches
        share = batches.shard(self.trainer.global_rank, self.trainer.world_size)
        device = root_device(self.trainer)
        if device.type == "cuda":
            if share.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
                share.move(device)
            else:
                share.pin = True
        return share
