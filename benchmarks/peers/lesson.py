"""The six models of the human numbers lesson in fastai 2, as the lesson writes them.

It runs in an environment that has fastai, and not this project. The job's model is `{"name": NAME, "pct_start": SHARE,
"seeds": [SEED, …]}`; for each seed it prints `seed SEED LOSS ACCURACY`, of the last epoch's validation.

fastai 2's defaults have changed since the lesson. Here are the lesson's: one cycle from a 25th of the rate down to a
25e4th, Adam with an eps of 1e-8, and weight decay for norms and biases too.
"""

import text
import torch
import torch.nn.functional as F
import torchvision_name  # noqa: F401
from fastai.text.all import (
    Adam,
    CrossEntropyLossFlat,
    DataLoaders,
    Learner,
    LMDataLoader,
    ModelResetter,
    Module,
    accuracy,
    nn,
    partial,
    set_seed,
    tensor,
)

UNITS = 64


class Lesson(Module):
    def __init__(self, vocab_size):
        self.embed = nn.Embedding(vocab_size, UNITS)
        self.hidden = self.layers()
        self.head = nn.Linear(UNITS, vocab_size)
        self.norm = nn.BatchNorm1d(UNITS)
        self.reset()

    def layers(self):
        return nn.Linear(UNITS, UNITS)

    def reset(self):
        self.state = None


class Unrolled(Lesson):
    def forward(self, x):
        h = self.norm(F.relu(self.embed(x[:, 0])))
        if x.shape[1] > 1:
            h = self.norm(F.relu(self.hidden(h + self.embed(x[:, 1]))))
        if x.shape[1] > 2:
            h = self.norm(F.relu(self.hidden(h + self.embed(x[:, 2]))))
        return self.head(h)


class Loop(Lesson):
    def forward(self, x):
        h = torch.zeros(x.shape[0], UNITS)
        for word in x.unbind(1):
            h = self.norm(F.relu(self.hidden(h + self.embed(word))))
        return self.head(h)


class MultiOutput(Lesson):
    def forward(self, x):
        h = torch.zeros(x.shape[0], UNITS) if self.state is None else self.state
        outputs = []
        for word in x.unbind(1):
            h = F.relu(self.hidden(h + self.embed(word)))
            outputs.append(self.norm(h))
        self.keep(h)
        return self.head(torch.stack(outputs, dim=1))

    def keep(self, state):
        pass


class Stateful(MultiOutput):
    def keep(self, state):
        self.state = state.detach()


class RNN(Lesson):
    def layers(self):
        return nn.RNN(UNITS, UNITS, batch_first=True)

    def forward(self, x):
        outputs, state = self.hidden(self.embed(x), self.state)
        self.state = state.detach()
        return self.head(self.norm(outputs.flatten(0, 1))).view(*x.shape, -1)


class GRU(RNN):
    def layers(self):
        return nn.GRU(UNITS, UNITS, 2, batch_first=True)


MODELS = {"unrolled": Unrolled, "loop": Loop, "multi_output": MultiOutput, "stateful": Stateful, "rnn": RNN, "gru": GRU}


def last_word(function):
    """Of models that predict the word after the last one only."""
    return lambda scores, targets: function(scores, targets[:, -1])


def main():
    job = text.job()
    torch.set_num_threads(job.threads)
    train, valid, vocab_size = text.read(job)
    name = job.model["name"]
    loss, right = CrossEntropyLossFlat(), accuracy
    if name in ("unrolled", "loop"):
        loss, right = last_word(loss), last_word(accuracy)
    optimizer = partial(Adam, sqr_mom=0.99, wd=job.optimizer["weight_decay"], eps=1e-8)
    for seed in job.model["seeds"]:
        set_seed(seed)
        loaders = [
            LMDataLoader([(tensor(ids),)], bs=job.batch_size, seq_len=job.bptt, shuffle=False, num_workers=0)
            for ids in (train, valid)
        ]
        learner = Learner(
            DataLoaders(*loaders),
            MODELS[name](vocab_size),
            loss_func=loss,
            opt_func=optimizer,
            metrics=right,
            cbs=ModelResetter,
            wd_bn_bias=True,
            moms=(0.95, 0.85, 0.95),
        )
        with learner.no_bar(), learner.no_logging():
            learner.fit_one_cycle(
                job.epochs, job.optimizer["lr"], div=25, div_final=25e4, pct_start=job.model["pct_start"]
            )
        print("seed", seed, *learner.recorder.values[-1][1:], flush=True)


main()
