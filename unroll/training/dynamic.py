"""Dynamic evaluation: a model that goes on learning from the split that it is evaluated on."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from unroll.checks import NonNegative, Positive, Size, checked
from unroll.errors import UserError
from unroll.lightning import pl
from unroll.resume.lightning import forward_context, root_device
from unroll.streams import Resumable, Stream, Window
from unroll.streams.one import OneSequence
from unroll.training.data import Data
from unroll.training.learner import Step, WindowLearner

SPLIT = "dynamic"


def one_stream(split: Resumable, rows: int, window: int) -> Stream:
    """A split's one sequence as other rows and windows.

    Raises:
        UserError: the split is something else.
    """
    layout = split.layout if isinstance(split, Stream) else None
    if not isinstance(layout, OneSequence):
        raise UserError("evaluate=… reads one long stream, so it needs data that are one (data.layout=stream)")
    return Stream(layout.sequence, rows, window, targets=layout.targets, warm_up=layout.warm_up)


class DynamicEvaluation:
    """The metrics of a split whose windows are learnt from, each after it has been scored (Krause et al. 2017, arXiv
    1709.07432, with the RMS rule and the global prior).

    After a window, with g the gradient of what training minimises, θ₀ the trained weights and s the root of the mean
    squared gradients over training windows, element by element:

        θ ← θ − lr · g / (s + eps) + min(1, decay · s / mean(s)) · (θ₀ − θ)

    where the mean is over all weights. Dropout is off. A prediction depends on earlier tokens alone.

    Args:
        lr, decay, eps: as above.
        rows: the rows that the split is laid out in. 1 reads it in its order from beginning to end.
        window: steps per window: how far back gradients reach, and how many steps are scored before an update.
        statistics: the number of training windows that s is taken from; None: all of an epoch.
    """

    @checked
    def __init__(
        self,
        lr: Positive,
        decay: NonNegative,
        eps: Positive = 1e-3,
        rows: Size = 1,
        window: Size = 20,
        statistics: Size | None = None,
    ) -> None:
        self.lr, self.decay, self.eps = lr, decay, eps
        self.rows, self.window = rows, window
        self.statistics = statistics

    def __call__(self, learner: WindowLearner, data: Data) -> dict[str, float]:
        """The metrics, by name.

        Args:
            learner: after a validation; its weights are left as they are.
            data: the training windows and the split to evaluate.

        Raises:
            UserError: the model carries no state, the split is not one long sequence, or the loss is not finite.
        """
        if not isinstance(learner, WindowLearner):
            raise UserError("evaluate=dynamic: is for recurrent models, which read a stream window by window")
        windows = one_stream(data.valid, self.rows, self.window)
        learner.to(root_device(learner.trainer))
        roots = self.roots(learner, data.train)
        for step in self.steps(learner, windows, roots):
            if not step.loss.isfinite():
                raise UserError(f"evaluate.lr={self.lr:g}: the loss is not finite any more; try a tenth of it")
        return {f"{SPLIT}/{name}": value for name, value in learner.total(SPLIT).items()}

    def roots(self, learner: WindowLearner, windows: Iterable[Window]) -> list[Tensor]:
        """The root of the mean squared gradient of each weight, over training windows."""
        weights = [*learner.model.parameters()]
        sums, count = [torch.zeros_like(weight) for weight in weights], 0
        learner.start(SPLIT)
        for window in windows:
            if count == self.statistics:
                break
            gradients(self.step(learner, window), weights)
            for total, weight in zip(sums, weights, strict=True):
                if weight.grad is not None:
                    total.addcmul_(weight.grad, weight.grad)
            count += 1
        learner.states.pop(SPLIT, None)
        return [total.div_(count).sqrt_() for total in sums]

    def steps(self, learner: WindowLearner, windows: Iterable[Window], roots: list[Tensor]) -> Iterator[Step]:
        """Each window as it is scored, before the weights learn from it. Afterwards they are what they were."""
        weights = [*learner.model.parameters()]
        trained = [weight.detach().clone() for weight in weights]
        mean = sum(float(root.sum()) for root in roots) / sum(root.numel() for root in roots)
        back = [(self.decay / mean * root).clamp_(max=1) for root in roots]
        scales = [1 / (root + self.eps) for root in roots]
        learner.start(SPLIT)
        try:
            for window in windows:
                step = self.step(learner, window)
                yield step
                gradients(step, weights)
                with torch.no_grad():
                    for weight, start, share, scale in zip(weights, trained, back, scales, strict=True):
                        weight.lerp_(start, share)
                        if weight.grad is not None:
                            weight.addcmul_(weight.grad, scale, value=-self.lr)
        finally:
            for weight, start in zip(weights, trained, strict=True):
                weight.data.copy_(start)
                weight.grad = None

    def step(self, learner: WindowLearner, window: Window) -> Step:
        learner.eval()
        window = pl.utilities.move_data_to_device(window, learner.device)
        with torch.enable_grad(), forward_context(learner.trainer):
            return learner.step(SPLIT, window)


def gradients(step: Step, weights: list[torch.nn.Parameter]) -> None:
    """Gives each weight the gradient of what training minimises, for a window."""
    for weight in weights:
        weight.grad = None
    step.minimised.backward()
