"""A plain PyTorch loop over images, as one writes it for a single model; batches are augmented as ours are.

    python pictures_bare.py JOB

JOB is JSON: `images`, a file of torch with pixels, labels, mean and std; `model`, a class of `vision.models`, and its
`arguments`; `few`, the number of images from which it computes its first layer, if it does so; `batch_size`, `batches`,
`epochs`, `pad`, `lr`, `weight_decay` and `threads`.
"""

import json
import sys
import time
from itertools import chain

import torch
import torch.nn.functional as F

import vision.models
from vision.data.batches import move, normalise


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    pixels, labels, mean, std = torch.load(job["images"])
    model = getattr(vision.models, job["model"])(**job["arguments"])
    optimizer = torch.optim.AdamW(
        model.parameters(), job["lr"], betas=(0.9, 0.99), weight_decay=job["weight_decay"], fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, job["lr"], total_steps=job["epochs"] * job["batches"])
    orders = [torch.randperm(len(labels)).split(job["batch_size"])[: job["batches"]] for _ in range(job["epochs"])]
    images, started = 0, time.perf_counter()
    if hasattr(model, "prepare"):
        model.prepare(normalise(pixels[: job["few"]], mean, std))
    for numbers in chain(*orders):
        shifts = torch.randint(-job["pad"], job["pad"] + 1, (len(numbers), 2))
        moves = torch.cat([shifts, torch.randint(2, (len(numbers), 1))], 1)
        loss = F.cross_entropy(model(normalise(move(pixels[numbers], moves), mean, std)), labels[numbers])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        images += len(numbers)
    print("fit", images, time.perf_counter() - started)


main()
