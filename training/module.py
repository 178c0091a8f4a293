"""The LightningModule that all tasks share: loss, sums, optimizer and schedule, and the place to go on from."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.plugins import MixedPrecision, Precision
from pytorch_lightning.utilities import GradClipAlgorithmType, move_data_to_device
from torch import Tensor, nn
from torch.optim import Optimizer

from training import rng
from training.checkpoint import KEY, refuse_unless_same
from training.compiled import CUDA_GRAPH, FastModel
from training.errors import UserError
from training.optimizers import parameter_groups

PROGRESS = "progress"  # where a checkpoint keeps what the module itself needs to go on in the middle of an epoch
NEEDED_TO_RESUME = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", PROGRESS)


@dataclass
class Totals:
    """Sums over the targets of one pass, divided only when they are read."""

    loss: Tensor | float = 0.0
    correct: Tensor | float = 0.0
    targets: int = 0

    def mean_loss(self) -> float:
        return float(self.loss) / self.targets if self.targets else math.nan

    def accuracy(self) -> float:
        return float(self.correct) / self.targets if self.targets else math.nan


class Prediction(NamedTuple):
    """What a model says to one batch.

    Attributes:
        logits: `[targets, classes]`.
        targets: int64 `[targets]`.
        penalty: what the model adds to the loss that it is trained by, if anything.
    """

    logits: Tensor
    targets: Tensor
    penalty: Tensor | None = None


class Step(NamedTuple):
    """One batch, read.

    Attributes:
        loss: mean cross-entropy, nats per target.
        objective: what training minimises: the same, with smoothed labels and the model's penalty if there are any.
        logits: `[targets, classes]`.
        targets: `[targets]`.
    """

    loss: Tensor
    objective: Tensor
    logits: Tensor
    targets: Tensor


class SupervisedModule(pl.LightningModule, ABC):
    """Trains a model to name classes: words of a text, or what is in a picture. One batch is one `training_step`.

    Automatic optimization, clipping, precision, accumulation and callbacks are Lightning's, untouched.

    Logs `train/batch_loss`, `lr` and `grad_norm` (before clipping) per step, `train/loss` per epoch, and `valid/loss`
    and `valid/accuracy` per validation; losses are in nats per target. A model's penalty and smoothed labels are for
    training alone and are no part of any figure.

    With several processes, losses, gradients and metrics are those of all rows together. A checkpoint holds what it
    takes to go on exactly where it was taken: sums, random generators, and what is carried from batch to batch, of each
    process.

    Args:
        model: what is trained.
        optimizer: makes the optimizer from the parameters or parameter groups.
        groups: settings of single layers (see `training.optimizers`).
        schedule: makes the learning rate schedule from the optimizer, `total_steps` and `steps_per_epoch`
            (see `training.schedules`).
        metadata: what a checkpoint needs besides weights (see `training.checkpoint`).
        compile: train by a faster version of the model (see `training.compiled`).
        label_smoothing: how much of each target is shared out among all classes (Szegedy et al. 2016,
            arXiv 1512.00567).
    """

    models: ClassVar[ModuleType]  # the package that checkpoints name their models from
    unit: ClassVar[str]  # what speed and sizes are counted in
    recorded: ClassVar[tuple[str, ...]] = ("train/loss", "valid/loss", "valid/accuracy")  # in `result.json`

    def __init__(
        self,
        model: nn.Module,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        groups: Mapping[str, Mapping[str, float]] | None = None,
        schedule: Callable[..., Any] | None = None,
        metadata: dict[str, Any] | None = None,
        compile: bool | str = False,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.read = self.faster(compile)
        self.label_smoothing = label_smoothing
        self.optimizer = optimizer
        self.groups = groups or {}
        self.schedule = schedule
        self.metadata = metadata
        self.totals: dict[str, Totals] = {}
        self.resumed: dict[str, Any] | None = None
        self.began = False

    # What a task has of its own

    @abstractmethod
    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """What the model is called with for a batch."""

    @abstractmethod
    def predict(self, split: str, batch: Any) -> Prediction:
        """Reads the next batch of a split."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """How many units are in a batch."""

    def faster(self, how: bool | str) -> FastModel:
        """The model, called by a faster version of it where there is to be one."""
        return FastModel(self.model, how)

    def figures(self, split: str, totals: Totals) -> dict[str, float]:
        """What is logged of a pass."""
        figures = {f"{split}/loss": totals.mean_loss()}
        return figures if split == "train" else {**figures, f"{split}/accuracy": totals.accuracy()}

    def carried(self) -> Any:
        """What training hands from one batch to the next, besides the weights; plain tensors."""
        return None

    def carry(self, carried: Any) -> None:
        """Takes it up again."""

    # One pass over a split

    def start(self, split: str) -> None:
        """Forgets the sums of the split's last pass."""
        self.totals[split] = Totals()

    def step(self, split: str, batch: Any) -> Step:
        """Reads the next batch of a split, and adds it to the sums."""
        logits, targets, penalty = self.predict(split, batch)
        loss = F.cross_entropy(logits, targets)
        totals = self.totals[split]
        exact = torch.float32 if loss.device.type == "mps" else torch.float64  # MPS has no float64
        totals.loss += loss.detach().to(exact) * len(targets)
        totals.targets += len(targets)
        objective = loss
        if self.label_smoothing and split == "train":
            objective = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        if penalty is not None:
            objective = objective + penalty
        return Step(loss, objective, logits, targets)

    def total(self, split: str) -> Totals:
        """The sums over all processes; each must ask."""
        totals = self.totals.get(split, Totals())
        if self.trainer.world_size == 1:
            return totals
        sums = [float(totals.loss), float(totals.correct), float(totals.targets)]
        loss, correct, targets = self.over_processes(torch.tensor(sums, dtype=torch.float64), "sum").tolist()
        return Totals(loss, correct, int(targets))

    def over_processes(self, values: Tensor, operation: str) -> Tensor:
        """Lightning's reduction, which is in place, of a copy on the device of this process."""
        reduced: Any = self.trainer.strategy.reduce(values.to(self.device, copy=True), reduce_op=operation)
        return reduced

    def on_fit_start(self) -> None:
        if self.read.how == CUDA_GRAPH and (self.device.type != "cuda" or self.trainer.world_size > 1):
            raise UserError("model.compile=graph trains on one NVIDIA GPU; model.compile=true is for any device")

    def on_train_start(self) -> None:
        if self.resumed is not None:
            self.carry(move_data_to_device(self.resumed["state"], self.device))
            self.totals = {split: Totals(**totals) for split, totals in self.resumed["totals"].items()}
            rng.restore(self.resumed["random"])
            self.resumed = None
        elif self.global_rank > 0:  # the rows of another process get dropout masks of their own
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        self.began = True

    def on_train_epoch_start(self) -> None:
        self.start("train")
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "set_epoch"):  # Lightning only does this for samplers
            loader.set_epoch(self.current_epoch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        step = self.step("train", batch)
        objective, loss = step.objective, step.loss.detach()
        trainer: Any = self.trainer
        if trainer.world_size > 1:  # gradients will be averaged over processes, but they may have unequally many rows
            count = torch.tensor(float(len(step.targets)), device=loss.device)
            share = count / self.over_processes(count, "mean")
            objective, loss = objective * share, loss * share
        if self._is_logged():
            first, *others = trainer.optimizers[0].param_groups
            rates = {"lr": first["lr"], **{f"lr/{group['name']}": group["lr"] for group in others}}
            self.log_dict({"train/batch_loss": loss, **rates}, sync_dist=trainer.world_size > 1)
        return objective

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self._is_logged():
            gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            self.log("grad_norm", torch.nn.utils.get_total_norm(gradients))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Any = None,
    ) -> None:
        """Lightning's; its refusal of fused optimizers in mixed precision is for those whose gradients are scaled."""
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None and gradient_clip_val:
            algorithm = gradient_clip_algorithm or GradClipAlgorithmType.NORM
            Precision.clip_gradients(precision, optimizer, gradient_clip_val, GradClipAlgorithmType(algorithm))
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _is_logged(self) -> bool:
        """Whether the step at hand is: logging takes as long as a small step, so it is not left to Lightning."""
        trainer: Any = self.trainer
        return (trainer.global_step + 1) % trainer.log_every_n_steps == 0

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.figures("train", self.total("train")))

    def on_validation_epoch_start(self) -> None:
        self.start("valid")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """The step's parts, for callbacks that look at them."""
        step = self.step("valid", batch)
        self.totals["valid"].correct += (step.logits.argmax(-1) == step.targets).sum()
        return step._asdict()

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.figures("valid", self.total("valid")))

    # Optimizer and schedule

    def configure_optimizers(self) -> Any:
        assert self.optimizer is not None, "training needs an optimizer"
        optimizer = self.optimizer(parameter_groups(self.model, self.groups))
        if self.schedule is None:
            return optimizer
        steps_per_epoch, total_steps = self.count_steps()
        scheduler = self.schedule(optimizer, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def count_steps(self) -> tuple[int, int]:
        """Optimizer steps per epoch and in all.

        Counted here because asking `trainer.estimated_stepping_batches` would set the loaders up before a
        checkpoint is restored, and their position would be lost on resume (Lightning issue 20550).
        """
        trainer = self.trainer
        loader: Any = trainer.fit_loop._data_source.dataloader()  # whether it was given itself or by a data module
        batches = len(loader)
        limit = trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        steps_per_epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
        total_steps = steps_per_epoch * (trainer.max_epochs or 1)
        if trainer.max_steps > 0:
            total_steps = min(total_steps, trainer.max_steps)
        return steps_per_epoch, total_steps

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.metadata is not None:
            checkpoint[KEY] = self.metadata
        mine = {
            "state": move_data_to_device(self.carried(), torch.device("cpu")),
            "totals": {split: asdict(totals) for split, totals in self.totals.items()},
            "random": rng.state(),
        }
        everyones = [mine]
        if self.trainer.world_size > 1:
            everyones = [{}] * self.trainer.world_size
            torch.distributed.all_gather_object(everyones, mine)
        checkpoint[PROGRESS] = everyones

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        missing = [key for key in NEEDED_TO_RESUME if key not in checkpoint]
        if not missing and not checkpoint["loops"].get("fit_loop"):  # Lightning would begin anew, and not say so
            missing = ["loops"]
        if missing:
            raise UserError(f"the checkpoint can't be resumed from: it has no {', '.join(missing)}")
        if self.metadata is not None:
            refuse_unless_same(checkpoint.get(KEY), self.metadata)
        processes = len(checkpoint[PROGRESS])
        if processes != self.trainer.world_size:
            raise UserError(f"the checkpoint is of {processes} processes; resume it with trainer.devices={processes}")
        self.resumed = checkpoint[PROGRESS][self.global_rank]
