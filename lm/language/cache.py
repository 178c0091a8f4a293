"""The neural cache: recent words are likelier where the hidden state is as it was before them."""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lm.language.heads import Head
from lm.language.learner import LanguageModel, perplexity
from unroll.checks import Fraction, Positive, Size, checked
from unroll.errors import UserError
from unroll.lightning import pl
from unroll.nn.layer import at_least_float32
from unroll.resume.lightning import forward_context, root_device
from unroll.streams import Window
from unroll.training.data import Data
from unroll.training.dynamic import one_stream

SPLIT = "cache"


class CacheEvaluation:
    """Loss and perplexity of a language model with a cache (Grave et al. 2017, arXiv 1612.04426). Nothing is trained.

    With h_t what the head is given at step t, and x_{i+1} the token that followed h_i:

        p(w) = (1 − weight) p_model(w) + weight · p_cache(w)
        p_cache(w) ∝ Σ_i 1{x_{i+1} = w} exp(sharpness · h_t · h_i),   i from t − size to t − 1

    Before the first token is remembered, the model's probabilities stand alone.

    Args:
        size, sharpness, weight: as above.
        rows: the rows that the split is laid out in, each with a cache of its own. 1 reads it in its order.
        window: tokens that are read at a time.
    """

    @checked
    def __init__(
        self,
        size: Size = 500,
        sharpness: Positive = 0.5,
        weight: Fraction = 0.1,
        rows: Size = 1,
        window: Size = 35,
    ) -> None:
        self.size, self.sharpness, self.weight = size, sharpness, weight
        self.rows, self.window = rows, window

    def __call__(self, learner: LanguageModel, data: Data) -> dict[str, float]:
        """The metrics, by name.

        Args:
            learner: after a validation.
            data: the split to evaluate.

        Raises:
            UserError: the model is no language model with a head, or the split is not one long sequence.
        """
        if not isinstance(learner, LanguageModel) or not isinstance(getattr(learner.model, "head", None), Head):
            raise UserError("evaluate=cache: is for language models that end in one of lm.language.heads")
        learner.to(root_device(learner.trainer))
        losses = list(self.losses(learner, one_stream(data.valid, self.rows, self.window)))
        loss = float(sum(part.double().sum() for part in losses)) / sum(part.numel() for part in losses)
        return {f"{SPLIT}/loss": loss, f"{SPLIT}/perplexity": perplexity(loss)}

    @torch.no_grad()
    def losses(self, learner: LanguageModel, windows: Iterable[Window]) -> Iterator[Tensor]:
        """The loss of each target in nats, window by window, float `[rows, time]`."""
        model = learner.model.eval()
        head: Head = model.head  # type: ignore[assignment]
        remembered: tuple[Tensor, Tensor] | None = None
        for window in windows:
            window = pl.utilities.move_data_to_device(window, learner.device)
            with forward_context(learner.trainer):
                hidden, state = model.features(window.inputs, learner.state(window, SPLIT))  # type: ignore[operator]
                logarithms = at_least_float32(head(hidden)).log_softmax(-1)
            learner.carry(state, SPLIT)
            own = logarithms.gather(-1, window.targets.unsqueeze(-1)).squeeze(-1)
            hidden, targets, before = at_least_float32(hidden), window.targets, 0
            keys, values = hidden, targets
            if remembered is not None:
                kept, followed = (part[: len(targets)] for part in remembered)  # the last rows may have ended
                keys, values, before = torch.cat([kept, keys], 1), torch.cat([followed, values], 1), kept.size(1)
            yield -self.mixed(own, hidden, targets, keys, values, before)
            remembered = keys[:, -self.size :], values[:, -self.size :]

    def mixed(self, own: Tensor, hidden: Tensor, targets: Tensor, keys: Tensor, values: Tensor, before: int) -> Tensor:
        """The logarithm of the targets' probabilities, float `[rows, time]`.

        Args:
            own: the same by the model alone.
            hidden: float `[rows, time, hidden]`.
            targets: int64 `[rows, time]`.
            keys, values: what was remembered before the window, and then the window's own: float
                `[rows, before + time, hidden]` and int64 `[rows, before + time]`.
            before: how many were remembered.
        """
        step = before + torch.arange(targets.size(1), device=keys.device).unsqueeze(1)
        place = torch.arange(keys.size(1), device=keys.device)
        seen = (place < step) & (place >= step - self.size)
        likeness = (self.sharpness * hidden @ keys.transpose(1, 2)).masked_fill(~seen, -math.inf)
        same = values.unsqueeze(1) == targets.unsqueeze(2)
        of_cache = likeness.masked_fill(~same, -math.inf).logsumexp(-1) - likeness.logsumexp(-1)
        both = torch.logaddexp(own + math.log(1 - self.weight), of_cache + math.log(self.weight))
        return torch.where(step.squeeze(1) > 0, both, own)
