"""Where training loaders stand in an epoch, and how they go on from there."""

import math
import warnings
from typing import Any

from unroll.errors import UserError
from unroll.resume import lightning
from unroll.resume.order import order_of
from unroll.streams.resumable import Resumable

TORCHDATA_COUNTS = {"_num_yielded", "_sampler_iter_yielded"}  # batches, in the state of its loader
UNKNOWN, FETCHED = "unknown", "fetched"  # places: none, and where a batch has been fetched that follows


def read_by(loader: Any) -> Resumable | None:
    """The stream that a loader is, or that is its data set."""
    stream = loader if isinstance(loader, Resumable) else getattr(loader, "dataset", None)
    return stream if isinstance(stream, Resumable) else None


def rows_per_process(trainer: Any) -> int | None:
    """The rows of a training batch that each process has; None if that is not known, or not the same of each loader."""
    streams = map(read_by, lightning.train_loaders(trainer))
    rows = {None if stream is None else getattr(stream, "batch_size", 0) // stream.shares for stream in streams}
    return rows.pop() if len(rows) == 1 else None


def plainly_read(loader: Any) -> Resumable | None:
    """The stream of a loader that keeps no place of its own, as torchdata's does."""
    return None if loader is not read_by(loader) and hasattr(loader, "load_state_dict") else read_by(loader)


def keeps_place(loader: Any) -> bool:
    """Whether it is a loader with a place of its own, as torchdata's."""
    return hasattr(loader, "load_state_dict") and loader is not read_by(loader) and order_of(loader) is None


def go_on(trainer: Any, places: list[Any]) -> None:
    """Lets the training loaders go on in the middle of an epoch, when a pass over them begins next.

    Raises:
        UserError: one of them can't.
    """
    loaders = lightning.train_loaders(trainer)
    if any(map(order_of, loaders)) and any(map(keeps_place, loaders)):
        raise UserError(
            "an epoch over a DataLoader and a StatefulDataLoader can't be gone on with: give two of one kind, or "
            "resume from a checkpoint of an epoch's end"
        )
    for loader, place in zip(loaders, places, strict=False):
        if (order := order_of(loader)) is not None:
            batch, mode = lightning.batches_processed(trainer), lightning.loader_mode(trainer)
            order.go_on(batch, mode, place == FETCHED)
        if place == UNKNOWN:
            refuse_unknown(loader, math.isinf(trainer.num_training_batches))
        elif (stream := plainly_read(loader)) is not None and place is not None:
            if getattr(loader, "num_workers", 0) and place["batches"]:
                raise UserError(
                    f"num_workers={loader.num_workers}: an epoch of a DataLoader with a worker can't be gone on with; "
                    f"use num_workers=0, or torchdata's StatefulDataLoader"
                )
            stream.load_state_dict(place)
        elif order_of(loader) is not None and loader.num_workers:
            say_that_workers_draw(loader)
    # Lightning knows of loaders with a state_dict alone
    warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")


def workers_stay(loader: Any) -> bool:
    """Whether its workers go on from epoch to epoch, and so do their random generators."""
    return bool(getattr(loader, "persistent_workers", False))


def say_that_workers_draw(loader: Any) -> None:
    """Says what is not the same where a fit goes on with other workers than it began with."""
    warnings.warn(
        f"num_workers={loader.num_workers}: if its data set draws random numbers, they are others than without the "
        f"stop; with num_workers=0 they are the same",
        stacklevel=2,
    )


def refuse_unknown(loader: Any, endless: bool) -> None:
    """
    Args:
        loader: whose place in the epoch is not known.
        endless: where it is not known when an epoch ends, nobody has files of one: it is only said.

    Raises:
        UserError: it does not go on.
    """
    kind = type(loader).__name__
    other = "unroll.Stream, or a DataLoader over rows by their number, goes on exactly"
    if endless and keeps_place(loader):  # it is behind a batch that Lightning has fetched to see whether more follow
        other = "with a length, which its data set gives (__len__), it goes on exactly"
    if not endless or keeps_place(loader):
        raise UserError(
            f"the place of {kind} in the epoch is not known: resume from a checkpoint of an epoch's end; {other}"
        )
    warnings.warn(f"the place of {kind} is not known, so it is read from its beginning; {other}", stacklevel=2)


def refuse_repeated(loaders: list[Any]) -> None:
    """
    Raises:
        UserError: training reads the same stream or loader twice, which knows of one place.
    """
    read = [read_by(loader) or loader for loader in loaders]
    for number, one in enumerate(read):
        if any(one is other for other in read[:number]):
            raise UserError(
                f"training reads the same {type(one).__name__} twice, which has one place in its epoch: give each "
                f"loader one of its own"
            )


def passes(loaders: list[Any]) -> list[tuple[Resumable, dict[str, Any]]]:
    """The streams of loaders, and how far the pass over each is."""
    streams = [stream for stream in map(read_by, loaders) if stream is not None]
    return [(stream, stream.pass_state) for stream in streams]


def put_back(before: list[tuple[Resumable, dict[str, Any]]]) -> None:
    """Lets passes be as far as they were; something else may have read the streams since."""
    for stream, state in before:
        vars(stream).update(state)


def refuse_workers(loader: Any) -> None:
    """
    Raises:
        UserError: a worker would draw the order of a stream, or each of several would yield all of it.
    """
    stream, workers = read_by(loader), getattr(loader, "num_workers", 0)
    if stream is not None and workers > 1:
        raise UserError(
            f"num_workers={workers}: each worker would yield every batch of a {type(stream).__name__}; use "
            f"num_workers=0, or 1 where nothing is drawn"
        )
    if stream is not None and workers and stream.draws:
        raise UserError(
            f"num_workers={workers}: a worker can't tell the epoch, and would repeat its order; use num_workers=0"
        )


def refuse_unsure(loader: Any, processes: int) -> None:
    """
    Raises:
        UserError: workers would read a stream otherwise, or each of several processes would read all of it.
    """
    refuse_workers(loader)
    stream = read_by(loader)
    if stream is not None and processes > 1 and stream.shares != processes:
        raise UserError(
            f"the stream is read whole by each of {processes} processes; give each its rows: "
            f"stream.shard(trainer.global_rank, {processes}), in a train_dataloader hook"
        )


def places(trainer: Any) -> list[Any]:
    """Where each training loader stands behind the batches that were trained on, for `go_on`."""
    return [place(loader, trainer) for loader in lightning.train_loaders(trainer)]


def place(loader: Any, trainer: Any) -> dict[str, int] | str | None:
    ahead = lightning.fetched_ahead(trainer)
    if lightning.fetches_in_step(trainer):
        return UNKNOWN
    if (stream := plainly_read(loader)) is not None:
        found = stream.state_dict()
        step_back(found, ahead, lightning.batches_completed(trainer), lightning.loader_mode(trainer))
        return found
    if order_of(loader) is not None:
        return FETCHED if ahead else None
    return None if keeps_place(loader) and (read_by(loader) is not None or not ahead) else UNKNOWN


def put_before_batch(checkpoint: dict[str, Any], trainer: Any, epoch: int, batch: int) -> None:
    """Changes a checkpoint to one that was written before a batch: the progress, and the place of the loaders.

    Args:
        checkpoint: is changed.
        trainer: the one that made it.
        epoch: how many epochs are completed.
        batch: how many batches of the next epoch are.
    """
    lightning.set_before_batch(checkpoint, trainer, epoch, batch)
    for state in lightning.loader_states(checkpoint):
        if not batch:
            set_start(state, epoch)
        else:
            step_back(state, lightning.fetched_ahead(trainer), batch, lightning.loader_mode(trainer))


def set_start(state: Any, epoch: int) -> None:
    """Changes the state of a `Resumable`, or of a loader around it, to the one before an epoch."""
    if isinstance(state, dict):
        if set(state) == {"epoch", "batches"}:
            state.update(epoch=epoch, batches=0)
        state.update(dict.fromkeys(TORCHDATA_COUNTS & set(state), 0))
        for part in state.values():
            set_start(part, epoch)


def step_back(state: Any, ahead: int, batch: int, mode: str) -> None:
    """Changes the state of a `Resumable`, or of a loader around it, to the one before its latest batches.

    Args:
        state: is changed.
        ahead: how many batches that is.
        batch: how many batches of the epoch were trained on.
        mode: of Lightning's `CombinedLoader`; in "max_size", one that has come to its end gives no more batches.
    """
    if not ahead or not isinstance(state, dict):
        return
    counts = {"batches"} if set(state) == {"epoch", "batches"} else TORCHDATA_COUNTS & set(state)
    for name in counts:
        state[name] = min(batch, state[name]) if mode == "max_size" else max(0, state[name] - ahead)
    for part in state.values():
        step_back(part, ahead, batch, mode)
