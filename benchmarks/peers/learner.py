"""fastai 2, as its lesson and its text library have it: a Learner on an LMDataLoader, the state reset by its callback.

It runs in an environment that has fastai, and not this project.
"""

import time

import text
import torch
import torchvision_name  # noqa: F401
from fastai.text.all import (
    Adam,
    Callback,
    CancelFitException,
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


class Model(Module):
    def __init__(self, vocab_size, batch_size, embedding_size, hidden_size, num_layers, norm):
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = nn.GRU(embedding_size, hidden_size, num_layers, batch_first=True)
        self.norm = nn.BatchNorm1d(hidden_size) if norm else nn.Identity()
        self.head = nn.Linear(hidden_size, vocab_size)
        self.shape = (num_layers, batch_size, hidden_size)
        self.reset()

    def reset(self):
        self.state = torch.zeros(*self.shape)

    def forward(self, tokens):
        outputs, state = self.rnn(self.embed(tokens), self.state)
        self.state = state.detach()
        return self.head(self.norm(outputs.flatten(0, 1))).view(*tokens.shape, -1)


class StopAfter(Callback):
    def __init__(self, steps):
        self.steps = steps

    def after_batch(self):
        if self.train_iter == self.steps:
            raise CancelFitException


def main():
    job = text.job()
    torch.set_num_threads(job.threads)
    set_seed(0)
    train, valid, vocab_size = text.read(job)
    loaders = [
        LMDataLoader([(tensor(ids),)], bs=job.batch_size, seq_len=job.bptt, shuffle=False, num_workers=0)
        for ids in (train, valid)
    ]
    model = Model(vocab_size, job.batch_size, **job.model)
    settings = dict(job.optimizer)
    lr = settings.pop("lr")
    first, second = settings.pop("betas")
    optimizer = partial(Adam, mom=first, sqr_mom=second, wd=settings.pop("weight_decay"))
    assert not settings, settings
    learner = Learner(
        DataLoaders(*loaders),
        model,
        loss_func=CrossEntropyLossFlat(),
        opt_func=optimizer,
        metrics=accuracy,
        cbs=[ModelResetter, *([] if job.max_steps is None else [StopAfter(job.max_steps)])],
    )
    started = time.perf_counter()
    with learner.no_bar():
        if job.one_cycle:
            learner.fit_one_cycle(job.epochs, lr)
        else:
            learner.fit(job.epochs, lr)
    seconds = time.perf_counter() - started
    print("fit", job.epochs * sum(targets.numel() for _, targets in loaders[0]), seconds)


main()
