"""The C code of this folder as a library: compiled by the system's compiler when it is first needed, kept in a cache.

The compiler is that of the environment variable `CC`, else `cc`, `gcc` or `clang`; the cache is the folder
`unroll/kernels` of `XDG_CACHE_HOME` or `~/.cache`. Where that can't be written to, each process compiles for itself.
Without a compiler, on Windows, or if compiling fails, there is no library, and the plain forms serve.
`ATEN_CPU_CAPABILITY=avx2`, which PyTorch obeys, restricts the instructions here too.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

SOURCE = Path(__file__).with_name("steps.c")


class Library(NamedTuple):
    functions: ctypes.CDLL
    digest: str  # of the file


@cache
def library(dtype: torch.dtype) -> Library | None:
    """The functions of steps.c for float64 or float32; None if they can't be compiled here."""
    try:
        command = [*compiler(), "-O2", *instructions(), "-std=gnu11", "-shared", "-fPIC", "-pthread"]
        command.append("-DDOUBLE" if dtype == torch.float64 else "-DSINGLE")
        try:
            return loaded(cached(command))
        except (OSError, RuntimeError):  # the cache can't be written to; RuntimeError: there is no home
            with tempfile.TemporaryDirectory() as folder:
                return loaded(compiled(command, Path(folder)))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def loaded(path: Path) -> Library:
    return Library(ctypes.CDLL(str(path)), path.stem.rpartition("-")[2])


def cached(command: list[str]) -> Path:
    """The library in the cache, compiled if it isn't there."""
    key = digest(repr((SOURCE.read_bytes(), command, processor())).encode())
    folder = cache_folder()
    for path in folder.glob(f"steps-{key}-*.so"):
        if path.stem.endswith(digest(path.read_bytes())):  # to load a broken file is to crash
            return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        made = compiled(command, Path(temporary))
        return made.replace(folder / f"steps-{key}-{made.stem}.so")  # whole or not at all, if two processes do this


def cache_folder() -> Path:
    """
    Raises:
        RuntimeError: there is no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "unroll", "kernels")


def compiled(command: list[str], folder: Path) -> Path:
    """A new library in the folder, named by its content."""
    made = folder / "steps.so"
    subprocess.run([*command, str(SOURCE), "-lm", "-o", str(made)], check=True, capture_output=True, timeout=60)
    return made.replace(folder / f"{digest(made.read_bytes())}.so")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def compiler() -> list[str]:
    """The command of a C compiler.

    Raises:
        OSError: there is none.
    """
    given = shlex.split(os.environ.get("CC", ""))
    if sys.platform != "win32":
        for command in [given] if given else [["cc"], ["gcc"], ["clang"]]:
            if shutil.which(command[0]):
                return command
    raise OSError("no C compiler")


def instructions() -> list[str]:
    """The compiler's option for the instructions that are used."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    return {"avx2": ["-mavx2", "-mfma"], "default": []}.get(
        os.environ.get("ATEN_CPU_CAPABILITY", "").lower(), ["-march=native"]
    )


def processor() -> str:
    """What tells machines apart that share a cache."""
    linux = Path("/proc/cpuinfo")
    lines = linux.read_text().splitlines() if linux.exists() else []
    flags = [line for line in lines if line.startswith(("flags", "Features"))][:1]
    return repr((platform.machine(), platform.processor(), *flags))
