"""What a stream yields."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor
from torch.utils.data._utils.collate import default_collate_fn_map  # as the documentation of `default_collate` shows

from unroll.device import sent
from unroll.errors import UserError


class Parts(NamedTuple):
    """The fields of a `Window`."""

    inputs: Tensor
    targets: Tensor
    starts: Tensor
    mask: Tensor | None = None
    resets: Tensor | None = None


class Window(Parts):
    """Some steps of every row.

    Windows that are independent of each other are windows in which every row starts.

    What is asked of a window in every step (whether rows start, how many targets count) is answered by the host: on a
    GPU, asking the device would wait for it. So `starts` and `mask` stay known here when the window moves there.

    Attributes:
        inputs: `[rows, time, …]`.
        targets: `[rows, time, …]`; of whole sequences with one target each `[rows, …]`.
        starts: bool `[rows]`: the rows that begin a new sequence at the window's first step.
        mask: bool `[rows, time]`: the steps that count; None where all do.
        resets: bool `[rows, time]`: the steps before which the state of a row becomes zeros; None for none beside
            `starts`.
    """

    _host: tuple[Tensor, Tensor | None] | None = None

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        targets: Tensor,
        starts: Tensor,
        mask: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> "Window":
        """A window whose `starts`, `mask` and `resets`, given on the CPU, go to the device of the inputs; the first two
        stay known here.
        """
        flags = (None if part is None else sent(part, inputs.device) for part in (starts, mask, resets))
        window = cls(inputs, targets, *flags)  # type: ignore[arg-type]
        window._host = starts, mask
        return window

    @property
    def on_host(self) -> tuple[Tensor, Tensor | None]:
        """`starts` and `mask` on the CPU."""
        if self._host is None:
            self._host = self.starts.cpu(), None if self.mask is None else self.mask.cpu()
        return self._host

    def to(self, device: torch.device | str) -> "Window":
        """The same on a device; the host goes on knowing `starts` and `mask`."""
        return self._each(lambda part: sent(part, torch.device(device)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Window":
        parts: Any = (None if part is None else change(part) for part in self)
        window = Window(*parts)
        window._host = self.on_host
        return window

    def pin_memory(self) -> "Window":
        """The same in pinned memory, from which a GPU copies it while it computes."""
        return self._each(Tensor.pin_memory)

    @property
    def all_start(self) -> bool:
        """Whether every row begins a new sequence."""
        return bool(self.on_host[0].all())

    @property
    def some_start(self) -> bool:
        """Whether a row begins a new sequence."""
        return bool(self.on_host[0].any())

    @property
    def full_mask(self) -> Tensor:
        """`mask`; of a window in which all steps count, True for each. bool `[rows, time]`, on the inputs' device."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.inputs.shape[:2], dtype=torch.bool, device=self.inputs.device)

    @property
    def num_targets(self) -> int:
        """The number of steps that count."""
        mask = self.on_host[1]
        return self.inputs.size(0) * self.inputs.size(1) if mask is None else int(mask.sum())

    def scored(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What a model returned for the steps that count, `[targets, …]`, and their targets, `[targets, …]`.

        Args:
            features: `[rows, predictions, …]`: of the last steps, if they are fewer than the window's.

        Raises:
            UserError: features of another shape.
        """
        rows, time = self.inputs.shape[:2]
        if features.dim() < 2 or features.size(0) != rows or features.size(1) > time:
            raise UserError(
                f"a model must return [rows, predictions, …] for a window: {rows} rows, at most {time} predictions, "
                f"not {list(features.shape)}; [rows, 1, …] for the last step alone"
            )
        predictions = features.size(1)
        features, targets = features.flatten(0, 1), self.targets[:, -predictions:].flatten(0, 1)
        mask = self.on_host[1]
        if mask is None:
            return features, targets
        places = mask[:, -predictions:].flatten().nonzero().squeeze(1)
        places = sent(places, features.device)
        return features[places], targets[places]


def refuse_to_collate(windows: list[Window], **settings: Any) -> NoReturn:
    """What a loader around a stream calls, which collects samples into batches by default.

    Raises:
        UserError: in any case.
    """
    raise UserError(
        "the windows of a stream are batches already: give the stream itself in the place of its loader, "
        "or DataLoader(stream, batch_size=None)"
    )


default_collate_fn_map[Window] = refuse_to_collate
