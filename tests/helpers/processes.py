"""`train.py` and other programs in processes that are forked from one which has imported torch and Lightning already.

Each is a process of its own that runs the whole program, but starts in a tenth of a second instead of three. Where the
start itself matters, tests start a fresh interpreter.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import warnings
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

ROOT = Path(__file__).parents[2]

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
server: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])  # the server has no other sys.path
if sys.platform != "win32":
    server.set_forkserver_preload(["helpers.memory", "helpers.preloaded"])


class TrainProcess:
    """What `subprocess.Popen(["python", "train.py", …], text=True)` would be, with its output in files.

    Args:
        arguments: what is typed after `train.py`.
        module: another program instead: a module, as after `python -m`, or a script in the folder.
        path: a folder on PYTHONPATH.
        folder: the working directory.
        input: what comes from standard input.
        largest_file: in bytes; a file that grows beyond ends like one on a full disk.
    """

    def __init__(
        self,
        *arguments: object,
        folder: Path,
        module: str | None = None,
        path: Path | None = None,
        input: str = "",
        largest_file: int | None = None,
    ) -> None:
        self.files = Path(tempfile.mkdtemp())
        for name, content in (("0", input), ("1", ""), ("2", "")):
            (self.files / name).write_text(content)
        self.process = server.Process(
            target=run, args=([str(argument) for argument in arguments], folder, module, path, self.files, largest_file)
        )
        self.process.start()

    def poll(self) -> int | None:
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def read(self, stream: int) -> str:
        return (self.files / str(stream)).read_text()

    def communicate(self, timeout: float = 200) -> tuple[str, str]:
        self.process.join(timeout)
        assert self.process.exitcode is not None, "it does not end"
        return self.read(1), self.read(2)


def run(
    arguments: list[str],
    folder: Path,
    module: str | None,
    path: Path | None,
    files: Path,
    largest_file: int | None,
) -> None:
    for stream in range(3):
        os.dup2(os.open(files / str(stream), os.O_RDWR | os.O_APPEND * (stream > 0)), stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    os.chdir(folder)
    os.environ.pop("HYDRA_FULL_ERROR", None)
    if path is not None:
        sys.path.insert(0, str(path))
    if largest_file is not None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    sys.argv = [str(ROOT / "train.py"), *arguments]
    try:
        if module is None:
            runpy.run_path(sys.argv[0], run_name="__main__")
        elif module.endswith(".py"):
            runpy.run_path(str(folder / module), run_name="__main__")
        else:
            sys.path.insert(0, str(folder))
            warnings.filterwarnings("ignore", ".* found in sys.modules", RuntimeWarning)  # imported by the server
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out


def train(
    *arguments: object,
    folder: Path,
    module: str | None = None,
    path: Path | None = None,
    input: str = "",
    timeout: float = 200,
) -> CompletedProcess:
    process = TrainProcess(*arguments, folder=folder, module=module, path=path, input=input)
    output, errors = process.communicate(timeout)
    return CompletedProcess(arguments, process.returncode or 0, output, errors)
