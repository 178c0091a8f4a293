"""A plain PyTorch loop, as one writes it for a single model: the peer that has nothing to carry."""

import time

import text
import torch
import torch.nn.functional as F
from torch import nn


class Model(nn.Module):
    def __init__(self, vocab_size, embedding_size, hidden_size, num_layers, norm):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_size)
        self.rnn = nn.GRU(embedding_size, hidden_size, num_layers, batch_first=True)
        self.norm = nn.BatchNorm1d(hidden_size) if norm else nn.Identity()
        self.head = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens, state):
        outputs, state = self.rnn(self.embed(tokens), state)
        return self.head(self.norm(outputs.flatten(0, 1))), state.detach()


def batches(ids, batch_size, bptt):
    steps = (len(ids) - 1) // batch_size
    inputs = ids[: batch_size * steps].view(batch_size, steps)
    targets = ids[1 : batch_size * steps + 1].view(batch_size, steps)
    return list(zip(inputs.split(bptt, dim=1), targets.split(bptt, dim=1), strict=True))


def main():
    job = text.job()
    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    train, valid, vocab_size = text.read(job)
    train = batches(torch.tensor(train), job.batch_size, job.bptt)
    valid = batches(torch.tensor(valid), job.batch_size, job.bptt)
    model = Model(vocab_size, **job.model)
    optimizer = torch.optim.AdamW(model.parameters(), **job.optimizer)
    schedule = None
    if job.one_cycle:
        steps = job.epochs * len(train)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, job.optimizer["lr"], total_steps=steps)

    tokens, started = 0, time.perf_counter()
    for epoch in range(job.epochs):
        epoch_started = time.perf_counter()
        model.train()
        state, total, count = None, 0.0, 0
        for inputs, targets in train:
            scores, state = model(inputs, state)
            loss = F.cross_entropy(scores, targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            total += loss.item() * targets.numel()
            count += targets.numel()
        tokens += count
        train_loss = total / count

        model.eval()
        state, total, right, count = None, 0.0, 0, 0
        with torch.no_grad():
            for inputs, targets in valid:
                scores, state = model(inputs, state)
                total += F.cross_entropy(scores, targets.flatten(), reduction="sum").item()
                right += (scores.argmax(1) == targets.flatten()).sum().item()
                count += targets.numel()
        seconds = time.perf_counter() - epoch_started
        print(epoch + 1, f"{train_loss:.4f} {total / count:.4f} {right / count:.4f} {seconds:.2f}", flush=True)
    print("fit", tokens, time.perf_counter() - started)


main()
