"""Imported by the process that `train.py` is forked from: what a run imports, and what is found out at first use."""

import atexit
import gc
import weakref
from importlib import import_module
from pkgutil import walk_packages

import num2words  # noqa: F401
import torch._dynamo.utils
import torch.utils.tensorboard.summary
from hydra._internal import logging_config  # noqa: F401
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image, ImageDraw, ImageFont  # noqa: F401
from rich import progress  # noqa: F401

import lm
import lm.language.callbacks
import series
import unroll
import unroll.training.callbacks
import vision
from helpers.configuration import composed
from lm.language.corpora import human_numbers

# Whatever is typed in tests, by its form: what the parser finds out about its grammar is then known in each process.
TYPED = ["model=gru", "data.bptt=3", "optimizer.lr=1e-3", "data.numbers.train=[1,2]", "hydra.run.dir=a/b", "seed=1"]
TYPED += ["optimizer.groups={embed: {lr: 0.1}}", "callbacks.curves=null", "trainer.precision=16-mixed", "average=mean"]

for package in (lm, series, unroll, vision):
    for module in walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", ".runner")):  # those are programs
            import_module(module.name)
for package in (unroll.training.callbacks, lm.language.callbacks):
    for name in package.__all__:
        getattr(package, name)
Image.init()  # readers of images
human_numbers()  # how each is spelt
composed(*TYPED)  # Hydra's plugins, too
GlobalHydra.instance().clear()
HydraConfig.instance().cfg = None
unroll.training.plots.curves([{"step": step, "train/loss": 1.0, "lr": 1.0} for step in (1, 2)], "accuracy")  # fonts
for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
    finalizer.atexit = False  # PyTorch's operators: a fifth of a second in each process
atexit.unregister(torch._dynamo.utils.dump_compile_times)
gc.collect()
gc.freeze()  # a collection would visit all that was imported, in each process and again
