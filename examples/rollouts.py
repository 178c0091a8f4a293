"""Reinforcement learning with a recurrent policy: environments that end at different times, each with a done flag.

    python examples/rollouts.py

The T-maze (Bakker 2001, "Reinforcement learning with long short-term memory"): a signal at the start of a corridor says
whether to turn left or right at its end, so only a policy that remembers can do better than one half.
"""

import torch
from torch import nn

from unroll.state import detach, start_rows

ENVIRONMENTS, STEPS, ROLLOUTS = 64, 20, 50
SHORTEST, LONGEST = 4, 10  # of a corridor


class Mazes:
    """Corridors side by side. An observation is the signal, -1 or 1 at the start, and whether this is the end."""

    def __init__(self):
        self.at = self.length = self.signal = torch.zeros(ENVIRONMENTS)
        self.begin(torch.ones(ENVIRONMENTS, dtype=torch.bool))

    def begin(self, which):
        self.at = torch.where(which, 0, self.at)
        self.length = torch.where(which, torch.randint(SHORTEST, LONGEST, which.shape), self.length)
        self.signal = torch.where(which, torch.randint(2, which.shape) * 2.0 - 1, self.signal)

    def observation(self):
        return torch.stack([self.signal * (self.at == 0), (self.at == self.length).float()], -1)

    def step(self, turns):
        """The reward of each, and whether it is done; those that are begin again."""
        done = self.at == self.length
        reward = torch.where(turns == (self.signal > 0).long(), 1.0, -1.0) * done
        self.at = self.at + 1
        self.begin(done)
        return reward, done


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(2, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, observation, state):
        outputs, state = self.rnn(observation[:, None], state)
        return torch.distributions.Categorical(logits=self.head(outputs[:, 0])), state


if __name__ == "__main__":
    torch.manual_seed(0)
    mazes, policy, state = Mazes(), Policy(), None
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for rollout in range(ROLLOUTS):
        state, loss, right, ended = detach(state), 0.0, 0, 0  # gradients reach back through one rollout
        for _ in range(STEPS):
            turns, state = policy(mazes.observation(), state)
            turn = turns.sample()
            reward, done = mazes.step(turn)
            loss = loss - (turns.log_prob(turn) * reward).mean()
            state = start_rows(state, done)  # a new corridor knows nothing of the one before
            right, ended = right + int((reward > 0).sum()), ended + int(done.sum())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rollout % 10 == 0 or rollout == ROLLOUTS - 1:
            print(f"rollout {rollout:>3}: {right / ended:.2f} of the turns are right")
