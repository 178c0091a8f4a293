"""The C code of this folder as a library: compiled by the system's compiler when it is first needed, kept in a cache.

The compiler is that of the environment variable `CC`, else `cc`, `gcc` or `clang`; the cache is the folder
`unroll/kernels` of `XDG_CACHE_HOME` or `~/.cache`. Without a compiler, on Windows, or if compiling fails, there is no
library, and the plain forms serve. `ATEN_CPU_CAPABILITY=avx2`, which PyTorch obeys, restricts the instructions here
too.
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

import torch

SOURCE = Path(__file__).with_name("steps.c")


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions of steps.c for float32 or float64; None if they can't be compiled here."""
    try:
        return compiled("DOUBLE" if dtype == torch.float64 else "SINGLE")
    except (OSError, RuntimeError, subprocess.SubprocessError):  # RuntimeError: there is no home
        return None


def compiled(number: str) -> ctypes.CDLL:
    command = [*compiler(), "-O2", *instructions(), "-std=gnu11", "-shared", "-fPIC", "-pthread", f"-D{number}"]
    key = digest(repr((SOURCE.read_bytes(), command, processor())).encode())
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "unroll", "kernels")
    for path in folder.glob(f"steps-{key}-*.so"):
        if path.stem.endswith(digest(path.read_bytes())):  # to load a broken file is to crash
            return ctypes.CDLL(str(path))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        made = Path(temporary, "steps.so")
        subprocess.run([*command, str(SOURCE), "-o", str(made)], check=True, capture_output=True, timeout=120)
        path = folder / f"steps-{key}-{digest(made.read_bytes())}.so"
        made.replace(path)  # whole or not at all, also when two processes do this
    return ctypes.CDLL(str(path))


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
