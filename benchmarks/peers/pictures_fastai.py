"""fastai 2: a Learner with the same module and `fit_one_cycle`; batches are flipped and shifted as ours are.

    python pictures_fastai.py JOB

JOB as for `pictures_bare.py`. It runs in an environment that has fastai; of this project it needs `vision.models`, and
what moves and normalises a batch.
"""

import json
import sys
import time

import fastai.callback.schedule  # noqa: F401  it gives a Learner fit_one_cycle
import torch
from fastai.basics import Adam, CrossEntropyLossFlat, DataLoader, DataLoaders, Learner, partial, set_seed

import vision.models
from vision.data.batches import move, normalise


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    set_seed(0)
    pixels, labels, mean, std = torch.load(job["images"])
    count = job["batches"] * job["batch_size"]

    def augmented(batch):
        images, targets = batch
        shifts = torch.randint(-job["pad"], job["pad"] + 1, (len(targets), 2))
        moves = torch.cat([shifts, torch.randint(2, (len(targets), 1))], 1)
        return normalise(move(images, moves), mean, std), targets

    items = list(zip(pixels[:count], labels[:count], strict=True))
    train = DataLoader(items, bs=job["batch_size"], shuffle=True, num_workers=0, after_batch=augmented)
    none = DataLoader(items[:1], bs=1, num_workers=0, after_batch=augmented)
    model = getattr(vision.models, job["model"])(**job["arguments"])
    learner = Learner(
        DataLoaders(train, none),
        model,
        loss_func=CrossEntropyLossFlat(),
        opt_func=partial(Adam, mom=0.9, sqr_mom=0.99, wd=job["weight_decay"]),
    )
    started = time.perf_counter()
    if hasattr(model, "prepare"):
        model.prepare(normalise(pixels[: job["few"]], mean, std))
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(job["epochs"], job["lr"])
    print("fit", job["epochs"] * count, time.perf_counter() - started)


main()
