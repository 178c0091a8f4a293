"""The random generators that a fit's own objects hold: a module, callbacks, the data module, data sets, samplers."""

import random
import sys
import warnings
from functools import partial
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from unroll.resume import lightning
from unroll.resume.order import Order

LONGEST = 1_000  # of the lists and dicts that are looked through
MOST = 10_000  # objects that are looked at
PLAIN = (type(None), bool, int, float, str, bytes, Tensor, numpy.ndarray, type, FunctionType, ModuleType)
PLAIN_TYPES = {*PLAIN, nn.Parameter}
OF_LOADERS = ("dataset", "sampler", "batch_sampler", "collate_fn", "generator")
OF_PYTORCH = {*vars(nn.Module()), *vars(torch.optim.SGD([torch.zeros(1)]))}  # attributes of all modules and optimizers
LIBRARIES = {
    *sys.stdlib_module_names,
    *("torch", "numpy", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics", "unroll"),
    *("mlflow", "rich", "tensorboard", "tqdm", "wandb"),
}
GLOBAL = [torch.default_generator, *(getattr(kind.random, "__self__", None) for kind in (random, numpy.random))]
VALIDATION = "validation loader "


def states(trainer: Any, module: Any) -> dict[str, list[Any]]:
    """The kind and the state of each generator by the path of attributes to it, as plain values and tensors."""
    return {path: [kind(generator), state(generator)] for path, generator in found(trainer, module).items()}


def restore(trainer: Any, module: Any, saved: dict[str, list[Any]]) -> None:
    """Lets generators go on from what `states` returned; says in a line which ones are not there."""
    now = found(trainer, module)
    if any(path.startswith(VALIDATION) and path not in now for path in saved):
        lightning.set_up_validation(trainer)
        now = found(trainer, module)
    there = {path: generator for path, generator in now.items() if path in saved and saved[path][0] == kind(generator)}
    for path, generator in there.items():
        set_state(generator, saved[path][1])
    if missing := [path for path in saved if path not in there]:
        warnings.warn(
            f"the checkpoint has the state of a random generator that is not there now: {', '.join(missing)}; what is "
            f"drawn from it is not what it would have been",
            stacklevel=2,
        )


# Where they are


def found(trainer: Any, module: Any) -> dict[str, Any]:
    """The generators that can be reached by attributes, lists and dicts from what takes part in a fit, by path."""
    waiting = roots(trainer, module)
    opened = {id(part) for _, part in waiting}  # whichever library they are of
    waiting.reverse()
    seen: dict[int, Any] = {id(part): part for part in GLOBAL}
    generators: dict[str, Any] = {}
    while waiting:
        path, part = waiting.pop()
        if isinstance(part, PLAIN) or id(part) in seen:
            continue
        if len(seen) == MOST:
            say_that_there_is_more(path)
            break
        seen[id(part)] = part
        if is_generator(part):
            generators[path] = part
        else:
            inner = parts(part, id(part) in opened)
            waiting += [(f"{path}{name}", value) for name, value in reversed(inner)]
    return generators


def roots(trainer: Any, module: Any) -> list[tuple[str, Any]]:
    """What is looked through, and its path."""
    named = [("module", module), ("data module", trainer.datamodule)]
    counted: dict[str, int] = {}
    for part in (*trainer.callbacks, *trainer.optimizers):
        name = type(part).__name__
        counted[name] = counted.get(name, 0) + 1
        named.append((f"{name} {counted[name]}", part))
    for number, loader in enumerate(lightning.train_loaders(trainer)):
        named += parts_of_loader(f"training loader {number}", loader)
    for number, loader in enumerate(lightning.validation_loaders(trainer)):
        named += parts_of_loader(f"{VALIDATION}{number}", loader)
    return named


def parts_of_loader(path: str, loader: Any) -> list[tuple[str, Any]]:
    if not hasattr(loader, "dataset"):
        return [(path, loader)]
    named = [(f"{path}.{name}", getattr(loader, name, None)) for name in OF_LOADERS]
    return [(name, part.drawn_by if isinstance(part, Order) else part) for name, part in named]


def parts(whole: Any, is_root: bool) -> list[tuple[str, Any]]:
    """What can be reached from something in one step, by the end of its path."""
    if isinstance(whole, (list, tuple, dict)):
        values = [*whole.values()] if isinstance(whole, dict) else whole
        if len(whole) > LONGEST or {*map(type, values)} <= PLAIN_TYPES:
            return []
        keys = whole if isinstance(whole, dict) else range(len(whole))
        return [
            (f"[{key if isinstance(key, (str, int)) else number}]", value)
            for number, (key, value) in enumerate(zip(keys, values, strict=True))
        ]
    if isinstance(whole, partial):
        return [(f".{name}", getattr(whole, name)) for name in ("func", "args", "keywords")]
    if isinstance(whole, (MethodType, BuiltinMethodType)):
        return [(".__self__", whole.__self__)]
    inner = list(whole._modules.items()) if isinstance(whole, nn.Module) else []
    of_library = type(whole).__module__.partition(".")[0] in LIBRARIES
    if is_root or not of_library or isinstance(whole, (nn.Module, Dataset, Sampler)):
        inner += [(name, value) for name, value in attributes(whole).items() if name not in OF_PYTORCH]
    return [(f".{name}", value) for name, value in inner]


def attributes(whole: Any) -> dict[str, Any]:
    """Those that an object has itself, those of `__slots__` included."""
    slots = [vars(base).get("__slots__", ()) for base in type(whole).__mro__]
    names = [name for names in slots for name in ([names] if isinstance(names, str) else names)]
    found = {name: getattr(whole, name, None) for name in names if not name.startswith("__")}
    return found | getattr(whole, "__dict__", {})


def say_that_there_is_more(path: str) -> None:
    warnings.warn(
        f"random generators are looked for in {MOST} objects, and there are more, at {path}: those behind it are not "
        f"in checkpoints",
        stacklevel=2,
    )


# Their states


def is_generator(part: Any) -> bool:
    if isinstance(part, random.Random):
        return type(part).getstate is random.Random.getstate  # the system's has no state
    of_numpy = numpy.random.RandomState, numpy.random.Generator, numpy.random.BitGenerator
    return isinstance(part, (torch.Generator, *of_numpy))


def bits_of(generator: Any) -> Any:
    """What has the state of a generator of NumPy's."""
    return generator.bit_generator if isinstance(generator, numpy.random.Generator) else generator


def kind(generator: Any) -> str:
    """Generators of one kind take each other's states."""
    if isinstance(generator, torch.Generator):
        return f"torch {generator.device.type}"
    return "python" if isinstance(generator, random.Random) else type(bits_of(generator)).__name__


def state(generator: Any) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, numpy.random.RandomState):
        return plain(generator.get_state(legacy=False))
    return plain(bits_of(generator).state)


def set_state(generator: Any, saved: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(saved)
    elif isinstance(generator, random.Random):
        generator.setstate(saved)
    elif isinstance(generator, numpy.random.RandomState):
        generator.set_state(with_arrays(saved, generator.get_state(legacy=False)))
    else:
        bits = bits_of(generator)
        bits.state = with_arrays(saved, bits.state)


def plain(part: Any) -> Any:
    """A nest of dicts with lists in the place of arrays, and Python's numbers."""
    if isinstance(part, dict):
        return {name: plain(value) for name, value in part.items()}
    return part.tolist() if isinstance(part, (numpy.ndarray, numpy.generic)) else part


def with_arrays(part: Any, like: Any) -> Any:
    """The nest that `plain` was given, with arrays where another one has them."""
    if isinstance(part, dict):
        return {name: with_arrays(value, like[name]) for name, value in part.items()}
    return numpy.array(part, like.dtype) if isinstance(like, numpy.ndarray) else part
