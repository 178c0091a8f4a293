"""fastai 2's `text_classifier_learner` on documents of given ids: prints the tokens and the seconds of the fit.

    python classifier.py JOB

JOB is JSON: `documents`, a file of torch with lists of ids and labels for training and validation; `vocab_size`,
`size` (of the vectors and the units), `batch_size`, `bptt`, `max_tokens`, `epochs`, `lr` and `threads`. It runs in an
environment that has fastai, and not this project.
"""

import json
import sys
import time

import torch
import torchvision_name  # noqa: F401
from fastai.text.all import (
    AWD_LSTM,
    CrossEntropyLossFlat,
    DataLoaders,
    Pad_Chunk,
    SortedDL,
    TensorCategory,
    TensorText,
    accuracy,
    awd_lstm_clas_config,
    set_seed,
    text_classifier_learner,
)


def main():
    job = json.loads(sys.argv[1])
    torch.set_num_threads(job["threads"])
    set_seed(0)
    splits = torch.load(job["documents"])
    loaders = DataLoaders(
        *(
            SortedDL(
                [(TensorText(ids.long()), TensorCategory(label)) for ids, label in zip(*split, strict=True)],
                bs=job["batch_size"],
                shuffle=number == 0,
                drop_last=False,
                num_workers=0,
                before_batch=Pad_Chunk(pad_idx=1, seq_len=job["bptt"]),
            )
            for number, split in enumerate(splits)
        )
    )
    loaders.vocab = [str(number) for number in range(job["vocab_size"])]
    config = {**awd_lstm_clas_config, "emb_sz": job["size"], "n_hid": job["size"], "n_layers": 1}
    learner = text_classifier_learner(
        loaders,
        AWD_LSTM,
        seq_len=job["bptt"],
        max_len=job["max_tokens"],
        config=config,
        pretrained=False,
        n_out=2,
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
    )
    learner.unfreeze()
    started = time.perf_counter()
    with learner.no_bar():
        learner.fit_one_cycle(job["epochs"], job["lr"])
    seconds = time.perf_counter() - started
    print("fit", job["epochs"] * sum(len(ids) for ids in splits[0][0]), seconds)


main()
