"""Imported by the process that `train.py` is forked from: what every run imports, and Hydra's search for plugins."""

import gc

import torch.utils.tensorboard.summary  # noqa: F401
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from PIL import Image, ImageDraw, ImageFont  # noqa: F401
from rich import progress  # noqa: F401

import lm.language.callbacks
import lm.language.plots
import unroll.cli.commands
import unroll.cli.report.sweep
import unroll.cli.report.write
import unroll.resume.plugin
import unroll.training.callbacks
import unroll.training.plots
import vision.callbacks
import vision.plots  # noqa: F401
from helpers.configuration import composed

for name in (*unroll.training.callbacks.__all__, *lm.language.callbacks.__all__):
    getattr(unroll.training.callbacks if name in unroll.training.callbacks.__all__ else lm.language.callbacks, name)
composed()
GlobalHydra.instance().clear()
HydraConfig.instance().cfg = None
unroll.training.plots.curves([{"step": step, "train/loss": 1.0, "lr": 1.0} for step in (1, 2)], "accuracy")  # fonts
gc.collect()
gc.freeze()  # a collection would visit all that was imported, in each process and again
