"""This process among those of a run, and what it does before it trains."""

import atexit
import ctypes
import gc
import logging
import os
import sys
import threading
import warnings
from contextlib import suppress
from typing import Any

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
default_format = warnings.formatwarning


def in_process_group() -> bool:
    """Whether torchrun or srun started several processes."""
    return any(int(os.environ.get(name, 1)) > 1 for name in ("WORLD_SIZE", "SLURM_NTASKS"))


def import_torch() -> None:
    """Imports torch and Lightning without garbage collection, which would take a second and find nothing."""
    if "pytorch_lightning" in sys.modules:
        return
    let_threads_sleep()
    gc.disable()
    import pytorch_lightning  # noqa: F401

    gc.freeze()
    gc.enable()
    if "triton" in sys.modules:  # its bindings print all that has not been collected when the process ends
        atexit.register(gc.unfreeze)


def prepare(config: Any, threads: int) -> None:
    """Prepares this process for a run: what it prints, how it computes and what it does when TensorBoard fails.

    Args:
        config: the run's configuration.
        threads: of the CPU.
    """
    silence_lightning()
    warnings.formatwarning = one_line
    threading.excepthook = exit_if_tensorboard_cannot_write
    set_arithmetic(config.seed, threads, config.float32_matmul)
    keep_freed_memory()


def one_line(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    """A warning without the place in the code that gives it, which is no help to whoever has typed a command."""
    if issubclass(category, UserWarning):
        return f"warning: {message}\n"
    return default_format(message, category, *place, **line)


def silence_lightning() -> None:
    """Leaves out what Lightning and others say at every start."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*logs directory .* exists and is not empty.*",  # Hydra's run directory holds `.hydra/` already
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*GPU available but not used.*",  # by who typed trainer.accelerator=cpu
        ".*smaller than the logging interval.*",  # each epoch's loss is logged all the same
        ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
        ".*The value of the smallest subnormal.*",  # NumPy, where numbers that small become zeros
        ".*sync_dist=True.* when logging on epoch level.*",  # those metrics are of all processes already
    ):
        warnings.filterwarnings("ignore", message)


def set_arithmetic(seed: int, threads: int, float32_matmul: str) -> None:
    """Sets random seeds, threads and precision.

    Denormal numbers, those below 1e-38, become zeros: a gradient that vanishes over a long window is full of them, and
    they made a step of a plain RNN with windows of 256 take 7 times as long on an Intel processor.

    Args:
        seed: of Python's, NumPy's and torch's generators.
        threads: of the CPU.
        float32_matmul: as for `torch.set_float32_matmul_precision`.
    """
    import pytorch_lightning as pl
    import torch

    pl.seed_everything(seed, verbose=False)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # before there are threads: they inherit it
    torch.set_float32_matmul_precision(float32_matmul)
    warm_up_vector_math()


def let_threads_sleep() -> None:
    """Has threads that wait sleep soon, unless the environment says how long they wait; before torch is imported.

    GNU's OpenMP lets them look for work 300,000 times before. Where other programs use the cores too, that keeps the
    thread that is waited for from its core: two threads were up to twenty times as slow as they are so.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory of up to 32 MiB a tensor for the next one.

    By default it returns large blocks to the system at once, and every step of training takes them anew, page by page:
    a tenth of the time of a step with a vocabulary of 10,000 words.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, another allocator
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, size in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**30), (M_TOP_PAD, 2**26)):
            mallopt(parameter, size)


def warm_up_vector_math() -> None:
    """Calls each function of MKL's vector math that models use once, on one thread.

    The first call selects the code that the function runs. When two threads make it at once, one of them can run other
    code that once: a tanh of 131,072 numbers had other last bits in 13 of 120 processes, and in none after this.
    """
    import torch

    for function in (torch.tanh, torch.exp, torch.log, torch.sqrt, torch.erf):
        function(torch.ones(64))


def exit_if_tensorboard_cannot_write(failure: threading.ExceptHookArgs) -> None:
    """Exits when TensorBoard's writer thread fails on a full disk: the main thread would wait for it forever."""
    is_writer = type(failure.thread).__module__.startswith("tensorboard.")
    if is_writer and isinstance(failure.exc_value, OSError):
        from unroll.cli.messages import explain

        print(f"error: {explain(failure.exc_value, [])}", file=sys.stderr, flush=True)
        os._exit(1)
    threading.__excepthook__(failure)
