"""The page's server under load: how long readers wait for each other, and what memory a thousand requests leave.

    python -m benchmarks.explore CKPT [--readers 50] [--requests 1000] [--write FOLDER]

Each reader asks for 200 tokens at the same time as all others. Seconds from the request to the first token, and the
longest time between two tokens of one reader.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.process import ROOT, Table
from unroll.cli.plan import MIB, in_kib

TOKENS = 200


def written(port: int, prompt: str, length: int) -> list[float]:
    """The seconds at which the lines of an answer came, from the request on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    started = time.perf_counter()
    content = json.dumps({"prompt": prompt, "length": length}).encode()
    connection.request("POST", "/write", content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    times = [time.perf_counter() - started for _ in answer]
    connection.close()
    return times


def memory(process: subprocess.Popen[Any]) -> float:
    return 1024 * in_kib(f"/proc/{process.pid}/status", "VmRSS") / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="of a language model, or its run directory")
    parser.add_argument("--readers", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument("--requests", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "lm.explore", str(Path(arguments.checkpoint).resolve()), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        port = int(process.stderr.readline().split()[0].rpartition(":")[2])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/about")
        prompt = json.loads(connection.getresponse().read())["prompt"]
        columns = ("readers", "first token, median s", "slowest", "longest wait, s", "tokens/s of all")
        table = Table("explore", columns, arguments.write)
        for readers in (1, arguments.readers):
            started = time.perf_counter()
            with ThreadPoolExecutor(readers) as pool:
                found = list(pool.map(lambda _: written(port, prompt, TOKENS), range(readers)))
            speed = readers * TOKENS / (time.perf_counter() - started)
            firsts = [times[0] for times in found]
            waits = [later - earlier for times in found for earlier, later in pairwise(times)]
            table.add(
                (readers, ""), (median(firsts), ".3f"), (max(firsts), ".3f"), (max(waits), ".3f"), (speed, ",.0f")
            )
        table.keep()
        for number in range(arguments.requests + 1):
            written(port, prompt, 5)
            if number in (arguments.requests // 5, arguments.requests):
                print(f"after {number} requests: {memory(process):,.1f} MiB")
    finally:
        process.terminate()


if __name__ == "__main__":
    main()
