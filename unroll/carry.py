"""Truncated backpropagation through time for any LightningModule: the state carried from window to window."""

import inspect
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unroll.distributed import gathered
from unroll.errors import UserError
from unroll.precision import guard_lstms
from unroll.resume.lightning import attached_trainer, current_stage, is_fitting
from unroll.resume.loaders import rows_per_process
from unroll.resume.moment import STATES_BEFORE
from unroll.state import (
    ROW_AXIS,
    State,
    add_rows,
    check_rows,
    detach,
    join_rows,
    keep_rows,
    map_tensors,
    pack,
    start_rows,
    take_rows,
    tensors,
    unpack,
)
from unroll.state_file import load_state, save_state
from unroll.streams.window import Window

CARRIED = "carried_state"  # the checkpoint's key: training's states by split, of each process
ROWS = "rows_per_process"  # the checkpoint's key
STREAM = "stream"  # the split that is read by `stream`
HOOKS = ("on_save_checkpoint", "on_load_checkpoint", "configure_callbacks")  # that a class may have, too
EVALUATED = ("sanity_check", "validate", "valid", "test", "predict", STREAM)  # splits that a fit begins anew


class CarriesState:
    """A mixin that hands a model's state from one window to the next, detached.

        class Forecaster(CarriesState, pl.LightningModule):
            def training_step(self, window, index):
                outputs, state = self.model(window.inputs, self.state(window))
                self.carry(state)
                return F.mse_loss(outputs, window.targets)

    Gradients reach back through one window, the state through all of them. Each split (training, validation, …) has a
    state of its own, so a validation in the middle of an epoch leaves training's alone. Training's is in every
    checkpoint, for a fit that is resumed in the middle of an epoch.

    It brings a callback by which every checkpoint of a fit, whichever callback writes it, can be resumed from exactly
    (`unroll.resume.exact`).

    Name it before `LightningModule`. A class that defines `on_save_checkpoint`, `on_load_checkpoint` or
    `configure_callbacks` calls `super()`. A class that does otherwise is refused when it is defined.

    Attributes:
        state_axis: the axis of the rows in each tensor of the state; 1, as in `nn.LSTM`.
        state_classes: NamedTuples and dataclasses that states are made of, for one that is read from a file. Those that
            are defined beside the module or one of its parts are found without being named.
    """

    state_axis: int = ROW_AXIS
    state_classes: tuple[type, ...] = ()

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        refuse_left_out(cls)

    @property
    def states(self) -> dict[str, State]:
        """The state after the latest window, by split."""
        return self.__dict__.setdefault("_states", {})

    def state(self, window: Window, split: str | None = None) -> State:
        """The state that the model reads a window with.

        Rows that start anew (`window.starts`) get zeros; if all do, it is None.

        Args:
            window: the next window of the split.
            split: by default, what the trainer is doing: "train", "validate", "test" or "predict".

        Raises:
            UserError: the batch is no window, or has rows that continue nothing.
        """
        if not isinstance(getattr(window, "starts", None), torch.Tensor):
            raise UserError(
                f"carrying a state takes windows with `starts`, as unroll.Stream yields them; this batch is a "
                f"{type(window).__name__}: give unroll.Stream(sequence, batch_size, bptt) in the place of the loader"
            )
        if torch.is_autocast_enabled("cpu"):
            guard_lstms(self)  # type: ignore[arg-type]
        split = split or self._current_split()
        window = window if isinstance(window, Window) else Window(window.inputs, window.targets, window.starts)
        rows, starts = len(window.starts), window.starts
        self.__dict__["_rows"] = rows
        if window.all_start:
            return None
        state = self.states.get(split)
        if state is None:  # after a window whose state was None: the model carries none
            if split not in self.states:
                self._warn_of_no_state(split)
            return None
        parts = tensors(state)
        if not parts:
            return state
        if parts[0].device != starts.device:
            state = map_tensors(state, lambda part: part.to(starts.device))
        before = parts[0].size(self.state_axis)
        if before > rows:
            state = keep_rows(state, rows, self.state_axis)
        elif before < rows:
            if not window.on_host[0][before:].all():
                raise UserError(
                    f"the window has {rows} rows and the one before had {before}; the others must start anew"
                )
            state = add_rows(state, rows, self.state_axis)
        return start_rows(state, starts, self.state_axis) if window.some_start else state

    def carry(self, state: State, split: str | None = None) -> None:
        """Keeps the state that the model returned for the window that `state` was last called with.

        Raises:
            UserError: a tensor of it does not have the window's rows on `state_axis`, or the optimizer would carry the
                state on several times for one window.
        """
        trainer = attached_trainer(self)
        if trainer is not None and any(isinstance(optimizer, torch.optim.LBFGS) for optimizer in trainer.optimizers):
            raise UserError(
                "LBFGS evaluates a window several times in a step, and each time the state would be carried on; choose "
                "another optimizer"
            )
        if "_rows" in self.__dict__:
            check_rows(state, self.__dict__["_rows"], self.state_axis)
        self.states[split or self._current_split()] = detach(state)

    def _warn_of_no_state(self, split: str) -> None:
        self.states[split] = None  # once
        warnings.warn(
            f"a window goes on, but no state was carried after the one before ({split}), so it is read from zeros: "
            "call self.carry(state) with what the model returned",
            stacklevel=3,
        )

    def log_window(self, name: str, value: Tensor, window: Window, **settings: Any) -> None:
        """Logs a metric of a pass exactly: sums over the targets of all windows and processes, divided once.

        `self.log` weighs each window by its rows, whatever its length and mask.

        Args:
            name: of the metric.
            value: its mean over the targets of the window that count, one number.
            window: the window.
            settings: others of `self.log`, such as `prog_bar=True`.
        """
        module: Any = self
        processes = module.trainer.world_size
        module.log(
            name,
            value if window.num_targets else torch.zeros_like(value),  # a mean over nothing is not a number
            on_step=False,
            on_epoch=True,
            # Lightning takes the mean of the counts over the processes, rounded down
            batch_size=window.num_targets * processes,
            sync_dist=processes > 1,
            **settings,
        )

    # Outside training

    def stream(self, window: Window | torch.Tensor, anew: bool = False) -> Any:
        """Reads on: the outputs for the next window, in eval mode and without gradients.

        The class has `forward(inputs, state=None) -> (outputs, state)`; for windows with resets, a third argument,
        `resets=None`.

        Args:
            window: of an `unroll.Stream`; or its inputs alone, `[rows, time, …]`: each row then continues the same row
                of the call before, or starts if nothing has been read.
            anew: all rows start, from a state of zeros: what was read before is forgotten.

        Raises:
            UserError: as for `state` and `carry`.
        """
        if isinstance(window, torch.Tensor):
            starts = torch.full((len(window),), self.states.get(STREAM) is None, device=window.device)
            window = Window(window, window, starts)
        if anew:
            window = window._replace(starts=torch.ones_like(window.starts))
        module: Any = self
        was_training = module.training
        if was_training:
            module.eval()
        try:
            with torch.no_grad():
                before = self.state(window, STREAM)
                more = {} if window.resets is None else {"resets": window.resets}
                outputs, state = module(window.inputs, before, **more)
        finally:
            if was_training:
                module.train()
        self.carry(state, STREAM)
        return outputs

    def save_state(self, path: str | Path) -> None:
        """Saves the state after what `stream` has read (see `unroll.save_state`)."""
        save_state(self.states.get(STREAM), path)

    def load_state(self, path: str | Path) -> None:
        """Takes up a saved state: `stream` reads on from there (see `unroll.load_state`)."""
        self.states[STREAM] = load_state(path, tuple(self._classes().values()))

    def _current_split(self) -> str:
        trainer = attached_trainer(self)
        stage = None if trainer is None else current_stage(trainer)
        return stage or ("train" if getattr(self, "training", True) else "validate")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]  # LightningModule's
        states = self.__dict__.pop(STATES_BEFORE, self.states)
        kept = {split: state for split, state in states.items() if split not in EVALUATED}
        checkpoint[CARRIED] = gathered({split: pack(map_tensors(state, Tensor.cpu)) for split, state in kept.items()})
        trainer = attached_trainer(self)
        checkpoint[ROWS] = None if trainer is None else rows_per_process(trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        classes, trainer = self._classes(), attached_trainer(self)
        states = [
            {split: unpack(state, classes) for split, state in kept.items()} for kept in checkpoint.get(CARRIED, [])
        ]
        processes, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        if len(states) == processes:
            self.states.update(states[rank])
        elif any(states) and trainer is not None and is_fitting(trainer):
            self.states.update(self._share_anew(states, checkpoint.get(ROWS), rank, processes))

    def _share_anew(
        self, states: list[dict[str, State]], rows: int | None, rank: int, processes: int
    ) -> dict[str, State]:
        """A process's share of states that were carried by another number of processes.

        Args:
            states: of each process that there was, by split.
            rows: of a batch that each of them had; None if that is not known.

        Raises:
            UserError: they can't be shared.
        """
        if rows is None or rows * len(states) % processes:
            batch = "batches of unequally many rows" if rows is None else f"a batch of {rows * len(states)} rows"
            raise UserError(
                f"the checkpoint is of {len(states)} processes that share {batch}, which {processes} can't; resume it "
                f"with {len(states)}"
            )
        share = rows * len(states) // processes
        whole = {
            split: join_rows([kept.get(split) for kept in states], rows, self.state_axis)
            for split in {split: None for kept in states for split in kept}
        }
        return {split: take_rows(state, rank * share, share, self.state_axis) for split, state in whole.items()}

    def _classes(self) -> dict[str, type]:
        """The classes that a state may be made of: those that the module names, and what is defined beside it."""
        module: Any = self
        kinds = {kind for part in module.modules() for kind in type(part).__mro__}
        files = {kind.__module__ for kind in kinds} - {"builtins"}
        beside = [vars(sys.modules[name]) for name in files if name.partition(".")[0] not in ("torch", "unroll")]
        found = {name: value for names in beside for name, value in names.items() if isinstance(value, type)}
        return found | {kind.__name__: kind for kind in self.state_classes}

    def configure_callbacks(self) -> Any:
        """Lightning's, and what makes checkpoints exact, unless the trainer has it by `LastCheckpoint`."""
        from unroll.resume.callback import ExactCheckpoints
        from unroll.resume.exact import ResumesExactly

        module: Any = self
        callbacks = super().configure_callbacks()  # type: ignore[misc]
        callbacks = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
        if any(isinstance(callback, ResumesExactly) for callback in [*callbacks, *module.trainer.callbacks]):
            return callbacks
        return [*callbacks, ExactCheckpoints()]


def refuse_left_out(kind: type) -> None:
    """
    Raises:
        UserError: in a class with `CarriesState`, hooks of it would not be called.
    """
    order = kind.mro()
    before = order[: order.index(CarriesState)]
    if any(base.__name__ == "LightningModule" for base in before):
        raise UserError(
            f"class {kind.__name__}: name CarriesState before LightningModule, or the state is in no checkpoint"
        )
    for base, name in ((base, name) for base in before for name in HOOKS if name in vars(base)):
        code = getattr(inspect.unwrap(vars(base)[name]), "__code__", None)
        if code is not None and name not in code.co_names:
            raise UserError(
                f"{base.__name__}.{name} does not call super().{name}, without which no fit resumes exactly"
            )
