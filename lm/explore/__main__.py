"""A page to watch a model on: `python -m lm.explore CKPT`."""

import argparse
import sys
from pathlib import Path

from unroll.errors import UserError, require
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.terminal import errors_in_one_line


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lm.explore", description="A page to watch a model on.")
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("--port", type=int, default=8000, help="of this machine, 127.0.0.1 (default: %(default)s)")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    with errors_in_one_line():
        require("this", "explore", "starlette", "uvicorn")
        serve(checkpoint_file(arguments.checkpoint), arguments.port, arguments.model)


def serve(path: Path, port: int, model: str | None) -> None:
    import socket

    import torch
    import uvicorn

    from lm.explore.models import view_of
    from lm.explore.server import Server
    from lm.export.steps import load_step

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except (OSError, OverflowError):
        raise UserError(f"--port {port}: can't be used (another program may have it); choose another") from None
    port = listening.getsockname()[1]
    torch.set_num_threads(1)  # a step is too small for more
    found = class_named(model)
    server = Server(view_of(load_step(path, found, None), path, found))
    print(f"http://127.0.0.1:{port}    (Ctrl-C ends it)", file=sys.stderr, flush=True)
    settings = uvicorn.Config(
        server.app(port), log_level="error", lifespan="off", timeout_graceful_shutdown=1, limit_concurrency=1000
    )
    uvicorn.Server(settings).run(sockets=[listening])


if __name__ == "__main__":
    main()
