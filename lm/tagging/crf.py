"""A linear-chain conditional random field (Lafferty et al. 2001) over the labels of a sentence."""

import torch
from torch import Tensor, nn

from unroll.nn.layer import at_least_float32


class CRF(nn.Module):
    """Scores a sequence of labels by each label's own score and by the transitions between neighbours.

    Sentences are rows whose words come first; what `mask` leaves out is at the end.

    Args:
        labels: how many there are.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(labels, labels))  # from the first axis to the second
        self.first, self.last = nn.Parameter(torch.zeros(labels)), nn.Parameter(torch.zeros(labels))

    def nll(self, scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """The negative log-likelihood of the labels, summed over sentences, in nats.

        Args:
            scores: of each label, float `[rows, time, labels]`.
            labels: int64 `[rows, time]`.
            mask: bool `[rows, time]`; each row has at least one word.
        """
        scores = at_least_float32(scores)
        lengths = mask.sum(1, keepdim=True)
        own = scores.gather(2, labels.unsqueeze(2)).squeeze(2).masked_fill(~mask, 0).sum()
        steps = self.transitions[labels[:, :-1], labels[:, 1:]].masked_fill(~mask[:, 1:], 0).sum()
        ends = self.first[labels[:, 0]].sum() + self.last[labels.gather(1, lengths - 1)].sum()
        alpha = self.first + scores[:, 0]
        for now, counts in zip(scores.unbind(1)[1:], mask.unbind(1)[1:], strict=True):
            following = (alpha.unsqueeze(2) + self.transitions).logsumexp(1) + now
            alpha = torch.where(counts.unsqueeze(1), following, alpha)
        return (alpha + self.last).logsumexp(1).sum() - own - steps - ends

    @torch.no_grad()
    def decode(self, scores: Tensor, mask: Tensor) -> Tensor:
        """The most likely labels (Viterbi), int64 `[rows, time]`; 0 where the mask leaves out.

        Args:
            scores, mask: as for `nll`.
        """
        scores = at_least_float32(scores)
        rows = torch.arange(scores.size(0), device=scores.device)
        best, came_from = self.first + scores[:, 0], []
        for now, counts in zip(scores.unbind(1)[1:], mask.unbind(1)[1:], strict=True):
            following, before = (best.unsqueeze(2) + self.transitions).max(1)
            best = torch.where(counts.unsqueeze(1), following + now, best)
            stay = torch.arange(best.size(1), device=scores.device).expand_as(before)
            came_from.append(torch.where(counts.unsqueeze(1), before, stay))
        path = [(best + self.last).argmax(1)]
        for before in reversed(came_from):
            path.append(before[rows, path[-1]])
        return torch.stack(path[::-1], 1).masked_fill(~mask, 0)
