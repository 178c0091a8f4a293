"""Tokens and their numbers for the peers, without this project's code: a peer pays for its own."""

import json
import sys
from collections import Counter
from typing import Any, NamedTuple

UNKNOWN, PADDING = "xxunk", "xxpad"


class Job(NamedTuple):
    """What a peer is to train: the two texts as files, and the settings of the model, the data and the fit."""

    train: str
    valid: str
    characters: bool
    min_freq: int
    model: dict[str, Any]
    batch_size: int
    bptt: int
    optimizer: dict[str, Any]
    one_cycle: bool
    epochs: int
    threads: int
    max_steps: int | None = None  # fastai's Learner alone ends after so many


def job() -> Job:
    """The job that the command line holds, as JSON."""
    return Job(**json.loads(sys.argv[1]))


def read(job: Job) -> tuple[list[int], list[int], int]:
    """The ids of the training and of the validation text, and the size of the vocabulary (of the training text)."""
    texts = []
    for path in (job.train, job.valid):
        with open(path, encoding="utf-8") as file:
            text = file.read()
        texts.append(text if job.characters else text.split())
    train, valid = texts
    frequent = sorted(token for token, count in Counter(train).items() if count >= job.min_freq)
    ids = {token: number for number, token in enumerate([UNKNOWN, PADDING, *frequent])}
    return [ids.get(token, 0) for token in train], [ids.get(token, 0) for token in valid], len(ids)
