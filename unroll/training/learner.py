"""The LightningModules that train: one batch is one `training_step`, whatever is learnt."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, NamedTuple, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from typing_extensions import Unpack

from unroll.carry import CarriesState
from unroll.checks import Share, checked
from unroll.distributed import gathered
from unroll.errors import ArgumentError, UserError
from unroll.lightning import pl, warn_of_two
from unroll.precision import guard_lstms
from unroll.resume import lightning
from unroll.resume.checkpoint import KEY, refuse_unless_same
from unroll.state import forget
from unroll.streams import Window
from unroll.training.compiled import CUDA_GRAPH, FastModel, read, read_window
from unroll.training.objectives import Direction, Objective
from unroll.training.optimizers import parameter_groups
from unroll.training.schedules import count_steps

PROGRESS = "progress"  # the checkpoint's key: the sums of the epoch so far, per process
NEEDED_TO_RESUME = ("state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", PROGRESS)


@dataclass
class Sums:
    """Sums over the targets of one pass, by name; divided only when they are read."""

    sums: dict[str, Tensor | float] = field(default_factory=dict)
    targets: int = 0

    def add(self, loss: Tensor, sums: Mapping[str, Any]) -> None:
        """Adds what an objective made of a batch."""
        others = dict(sums)
        count = others.pop("targets")
        self.targets += count
        self.add_one("loss", loss, count)
        for name, value in others.items():
            self.add_one(name, value)

    def add_one(self, name: str, value: Tensor | float, times: int = 1) -> None:
        value = torch.as_tensor(value)
        exact = torch.float32 if value.device.type == "mps" else torch.float64  # MPS has no float64
        self.sums[name] = self.sums.get(name, 0.0) + value.detach().to(exact) * times

    def means(self) -> dict[str, float]:
        """Each sum per target."""
        return {name: float(value) / self.targets for name, value in self.sums.items()}


def sums_of_all(progress: Sequence[Mapping[str, Any]], rank: int) -> dict[str, Any]:
    """What a process goes on with of the sums of another number of processes: the first with all, others with zeros."""
    times = 0 if rank else 1
    totals = {}
    for split in progress[0]:
        parts = [of_one[split] for of_one in progress if split in of_one]
        names = {name: None for part in parts for name in part["sums"]}
        sums = {name: times * sum(float(part["sums"].get(name, 0)) for part in parts) for name in names}
        totals[split] = {"sums": sums, "targets": times * sum(part["targets"] for part in parts)}
    return totals


class Step(NamedTuple):
    """One batch, forward.

    Attributes:
        loss: the mean loss per target.
        minimised: what training minimises: what the objective says, and the model's penalty.
        features: what the objective was given.
        num_targets: how many there are.
    """

    loss: Tensor
    minimised: Tensor
    features: Tensor
    num_targets: int


class LearnerSettings(TypedDict, total=False):
    """The arguments that every learner passes on to `Learner`."""

    optimizer: Callable[[Iterable[Any]], Optimizer] | None
    groups: Mapping[str, Mapping[str, float]] | None
    schedule: Callable[..., Any] | None
    metadata: dict[str, Any] | None
    compile: bool | str


class Learner(pl.LightningModule, ABC):
    """Trains a model on batches; the objective says what is learnt.

    Automatic optimization, clipping, precision, accumulation and callbacks are Lightning's, untouched.

    Logs `train/batch_loss`, `lr` and `grad_norm` (before clipping) per step, `train/loss` per epoch, and per validation
    the objective's metrics, as `valid/NAME`: sums over the targets of all processes, divided once.

    A checkpoint has the sums of the epoch so far; `unroll.LastCheckpoint` adds the random generators, so that a run is
    resumed exactly.

    Args:
        model: what is trained.
        objective: the loss and the metrics.
        optimizer: makes the optimizer from the parameters or parameter groups.
        groups: settings of single layers (see `unroll.training.optimizers`).
        schedule: makes the learning rate schedule from the optimizer, `total_steps` and `steps_per_epoch`
            (see `unroll.training.schedules`); one that does not take `total_steps` steps once per epoch.
        metadata: what a checkpoint has besides weights (see `unroll.resume.checkpoint.describe`).
        compile: train by a faster version of the model (see `unroll.training.compiled`).

    Attributes:
        began: whether training has begun: no callback refused to.
        once_begun: is called then.
    """

    unit: ClassVar[str] = "samples"  # what throughput is counted in

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        groups: Mapping[str, Mapping[str, float]] | None = None,
        schedule: Callable[..., Any] | None = None,
        metadata: dict[str, Any] | None = None,
        compile: bool | str = False,
    ) -> None:
        super().__init__()
        if not isinstance(objective, Objective):
            raise ArgumentError("objective", objective, "an Objective, as conf/learner names them by _target_")
        warn_of_two()
        guard_lstms(model)
        self.model = model
        self.objective = objective
        self.fast_model = self.make_fast(compile)
        self.optimizer = optimizer
        self.groups = groups or {}
        self.schedule = schedule
        self.metadata = metadata
        self.passes: dict[str, Sums] = {}
        self.before_step: dict[str, Sums] = {}
        self.resumed: dict[str, Any] | None = None
        self.began = False
        self.once_begun: Callable[[], None] = lambda: None

    # What subclasses define

    @abstractmethod
    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """What the model is called with for a batch, the state apart."""

    @abstractmethod
    def size(self, batch: Any) -> int:
        """The number of units in a batch, without asking the device."""

    def read(self, split: str, batch: Any) -> tuple[Tensor, Tensor | None]:
        """Calls the model with the next batch of a split, "train" or "valid".

        Returns:
            The features (of a model without a method `features`, the outputs), and the model's penalty or None.
        """
        (features,) = self.fast_model(*self.inputs(batch))
        return features, None

    def conclusion(self, metrics: Mapping[str, float]) -> str | None:
        """A last line to say of a run that has ended.

        Args:
            metrics: of the model in `best.ckpt`, or in a run without one, of the last epoch.
        """
        return None

    def make_fast(self, how: bool | str) -> FastModel:
        """The model, called by a faster version of it where there is to be one."""
        return FastModel(self.model, how, read)

    def forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)

    # One pass over a split

    @property
    def metrics(self) -> dict[str, Direction]:
        """The metrics of a run, and whether less or more of each is better."""
        return {"train/loss": "min", **{f"valid/{name}": best for name, best in self.objective.metrics.items()}}

    def start(self, split: str) -> None:
        """Forgets the sums of the split's last pass."""
        self.passes[split] = Sums()

    def step(self, split: str, batch: Any) -> Step:
        """Calls the model with the next batch of a split, and adds what the objective makes of it to the sums."""
        features, penalty = self.read(split, batch)
        loss, minimised, sums = self.objective(self.model, features, batch)
        self.passes[split].add(loss, sums)
        return Step(loss, minimised if penalty is None else minimised + penalty, features, sums["targets"])

    def total(self, split: str) -> dict[str, float]:
        """The metrics of a split's pass so far, over all processes: each must ask."""
        mine = self.passes.get(split, Sums())
        if self.trainer.world_size > 1:
            values = torch.tensor([float(mine.targets), *map(float, mine.sums.values())], dtype=torch.float64)
            targets, *sums = lightning.reduce_over_processes(self.trainer, values, "sum").tolist()
            mine = Sums(dict(zip(mine.sums, sums, strict=True)), int(targets))
        if not mine.targets:
            return {}
        means = mine.means()
        metrics = {**means, **self.objective.derived({**means, "targets": mine.targets})}
        return {name: value for name, value in metrics.items() if name in self.objective.metrics}

    def on_fit_start(self) -> None:
        if self.fast_model.how == CUDA_GRAPH and (self.device.type != "cuda" or self.trainer.world_size > 1):
            raise UserError("model.compile=graph trains on one NVIDIA GPU; model.compile=true is for any device")

    def on_train_start(self) -> None:
        if self.resumed is not None:
            self.passes = {split: Sums(**sums) for split, sums in self.resumed.items()}
            self.resumed = None
        elif self.global_rank > 0:  # the rows of another process get dropout masks of their own
            torch.manual_seed(torch.initial_seed() + self.global_rank)
        self.began = True
        self.once_begun()

    def on_train_epoch_start(self) -> None:
        self.start("train")
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "set_epoch"):  # Lightning only does this for samplers
            loader.set_epoch(self.current_epoch)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.before_step = {split: Sums(dict(sums.sums), sums.targets) for split, sums in self.passes.items()}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        step = self.step("train", batch)
        minimised, loss = step.minimised, step.loss.detach()
        trainer: Any = self.trainer
        if trainer.world_size > 1:  # gradients will be averaged over processes, but they may have unequally many rows
            count = torch.full((), float(step.num_targets), device=loss.device)  # torch.tensor waits for the device
            mean = lightning.reduce_over_processes(trainer, count, "mean")
            share = count / mean.clamp(min=1 / trainer.world_size)
            minimised, loss = minimised * share, loss * share
        if self._is_logged():
            first, *others = trainer.optimizers[0].param_groups
            rates = {"lr": first["lr"], **{f"lr/{group['name']}": group["lr"] for group in others}}
            self.log_dict({"train/batch_loss": loss, **rates}, sync_dist=trainer.world_size > 1)
        return minimised

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
        if gradient_clip_val and lightning.clips_without_scaling(self.trainer):
            lightning.clip_gradients(self.trainer, optimizer, gradient_clip_val, gradient_clip_algorithm)
        else:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _is_logged(self) -> bool:
        """Whether this step is logged: logging takes as long as a small step, so it is not left to Lightning."""
        trainer: Any = self.trainer
        return (trainer.global_step + 1) % trainer.log_every_n_steps == 0

    def on_train_epoch_end(self) -> None:
        self._log_metrics("train")

    def on_validation_epoch_start(self) -> None:
        self.start("valid")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """The step's parts, for callbacks that look at them."""
        return self.step("valid", batch)._asdict()

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("valid")

    def _log_metrics(self, split: str) -> None:
        self.log_dict({f"{split}/{name}": value for name, value in self.total(split).items()})

    # Optimizer and schedule

    def configure_optimizers(self) -> Any:
        assert self.optimizer is not None, "training needs an optimizer"
        optimizer = self.optimizer(parameter_groups(self.model, self.groups))
        if self.schedule is None:
            return optimizer
        counts = {}
        if "total_steps" in inspect.signature(self.schedule).parameters:
            steps_per_epoch, total_steps = count_steps(self.trainer)
            counts = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        scheduler = self.schedule(optimizer, **counts)
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": "step" if counts else "epoch"}
        if isinstance(scheduler, ReduceLROnPlateau):
            validations = self.trainer.check_val_every_n_epoch or 1
            settings |= {"interval": "epoch", "frequency": validations, "monitor": "valid/loss"}
        return {"optimizer": optimizer, "lr_scheduler": settings}

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.metadata is not None:
            checkpoint[KEY] = self.metadata
        trainer = lightning.attached_trainer(self)
        passes = self.before_step if trainer is not None and lightning.in_step(trainer) else self.passes
        checkpoint[PROGRESS] = gathered({split: asdict(sums) for split, sums in passes.items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.metadata is not None:
            refuse_unless_same(checkpoint, self.metadata)
        missing = [key for key in NEEDED_TO_RESUME if key not in checkpoint]
        if not missing and not checkpoint[PROGRESS]:
            missing = [PROGRESS]
        if not missing and not lightning.has_progress(checkpoint):
            missing = ["loops"]
        if missing:
            raise UserError(f"the checkpoint can't be resumed from: it has no {', '.join(missing)}")
        self._refuse_fewer_epochs(checkpoint)
        progress = checkpoint[PROGRESS]
        same = len(progress) == self.trainer.world_size
        self.resumed = progress[self.global_rank] if same else sums_of_all(progress, self.global_rank)

    def _refuse_fewer_epochs(self, checkpoint: dict[str, Any]) -> None:
        """Lightning would end at once, and call the run finished."""
        trainer = self.trainer
        epochs, batches = lightning.completed(checkpoint)
        in_epoch = batches > 0
        limit = trainer.max_epochs or -1
        if 0 < limit < epochs + in_epoch:
            done = f"has finished epoch {epochs}" + (f" and is in epoch {epochs + 1}" if in_epoch else "")
            raise UserError(f"trainer.max_epochs={limit}: the run {done}; choose {epochs + in_epoch} or more")
        if 0 < trainer.max_steps < checkpoint["global_step"]:
            raise UserError(
                f"trainer.max_steps={trainer.max_steps}: the run has taken {checkpoint['global_step']} steps"
            )


class WindowLearner(CarriesState, Learner):
    """Trains a recurrent model on windows, its state carried from each to the next (`CarriesState`).

    Args:
        model: `forward(inputs, state=None) -> (outputs, state)`: inputs `[rows, time, …]`; outputs
            `[rows, predictions, …]`, where predictions is `time`, or 1 for a model that predicts the last step only.
            `state=None` means from zeros. A model with a `head` that the objective calls has
            `features(inputs, state=None) -> (features, state)`; one with a penalty of its own in training has
            `penalised(inputs, state) -> (features, state, penalty)` as well. For windows with `resets`, the method that
            is called has a third argument, `resets=None`, as `unroll.nn`'s layers do.
        objective: the loss and the metrics.
        forget: the share of rows that start from zeros again, before each training window.
        settings: as for `Learner`.
    """

    unit = "steps"

    @checked
    def __init__(
        self, model: nn.Module, objective: Objective, forget: Share = 0.0, **settings: Unpack[LearnerSettings]
    ) -> None:
        super().__init__(model, objective, **settings)
        self.forget = forget

    def make_fast(self, how: bool | str) -> FastModel:
        return FastModel(self.model, how, read_window)

    def inputs(self, batch: Window) -> tuple[Tensor, ...]:
        return (batch.inputs,)

    def size(self, batch: Window) -> int:
        """The steps that count."""
        return batch.num_targets

    def read(self, split: str, batch: Window) -> tuple[Tensor, Tensor | None]:
        state = self.state(batch, split)
        if split == "train":
            state = forget(state, self.forget, self.state_axis)
        inputs = (*self.inputs(batch), state)
        if batch.resets is None:
            features, state, penalty = self.fast_model(*inputs)
        else:  # in other places of each window, so by no fast version
            features, state, penalty = self.fast_model.call(self.model, *inputs, batch.resets)
        self.carry(state, split)
        return features, penalty
