"""All models side by side: parameters, throughput over bptt, and results.

    python -m benchmarks.models [--nietzsche FILE]
    python -m benchmarks.models --same-size [--rows 8] [--nietzsche FILE]

Each as its configuration makes it; with `--same-size`, those that carry a state with two layers of 256 units each: from
which bptt on is what cheaper? (64 rows side by side, or as many as `--rows` says.)

Tokens per second of plain training steps (forward, backward, optimizer; medians of 3 to 30), on one thread and without
mixed precision. Results are those that `benchmarks.lessons` has kept in `benchmarks/results`.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.configuration import compose_config
from benchmarks.lessons import LESSONS, choice
from benchmarks.process import Table
from benchmarks.steps import parts, prepared
from unroll.cli.report.tables import mean_text

RESULTS = Path(__file__).parent / "results"
BPTT = (20, 70, 256)
FEWEST_STEPS, MOST_STEPS, TOKENS = 3, 30, 120_000
ONLY_SHORT_WINDOWS = ("unrolled", "char_three")  # written out for three tokens

SAME_SIZE = {
    "gru": ["model=gru"],
    "awd_lstm": ["model=awd_lstm", "model.weight_drop=0"],
    "qrnn, k = 1": ["model=qrnn", "model.window=1"],
    "qrnn, k = 2": ["model=qrnn"],
    "min_gru": ["model=min_gru"],
    "min_lstm": ["model=min_lstm"],
}
SAME_SIZE_BPTT = (1, 2, 4, 8, 20, 70, 256)


def speed(overrides: list[str]) -> tuple[float, int]:
    """Tokens per second of a training step, and the number of parameters."""
    stream, module = prepared(overrides)
    tokens = median(inputs.numel() for inputs, *_ in islice(stream, MOST_STEPS))
    steps = int(min(MOST_STEPS, max(FEWEST_STEPS, TOKENS // tokens)))
    milliseconds = sum(parts(stream, module, steps).values())
    return 1000 * tokens / milliseconds, sum(parameter.numel() for parameter in module.parameters())


def result(lesson: str, model: str) -> str:
    """The last epoch's validation, over the seeds that were run."""
    try:
        runs = json.loads((RESULTS / f"{lesson}.json").read_text())[model]
    except (OSError, KeyError):
        return "–"
    name, digits, unit = ("loss", 3, "nats") if "nietzsche" in lesson else ("accuracy", 4, "accuracy")
    return f"{mean_text([run['metrics'][f'valid/{name}'] for run in runs], digits)} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nietzsche", metavar="FILE", help="a copy of the text, instead of the download")
    parser.add_argument("--same-size", action="store_true", help="all at one size, on Nietzsche and one thread")
    parser.add_argument("--rows", type=int, default=64, help="rows side by side, for --same-size")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    own = [f"data.path={Path(arguments.nietzsche).resolve()}"] if arguments.nietzsche else []

    torch.set_num_threads(1)

    if arguments.same_size:
        columns = ("model", "parameters", *(f"bptt {bptt}" for bptt in SAME_SIZE_BPTT))
        table = Table(f"models_same_size_{arguments.rows}", columns, arguments.write)
        sizes = ["data=nietzsche", *own, "model.embedding_size=256", "model.hidden_size=256", "model.num_layers=2"]
        sizes.append(f"data.batch_size={arguments.rows}")
        for name, overrides in SAME_SIZE.items():
            measured = [speed([*overrides, *sizes, f"data.bptt={bptt}"]) for bptt in SAME_SIZE_BPTT]
            table.add((name, ""), (measured[0][1], ",d"), *((tokens, ",.0f") for tokens, _ in measured))
        table.keep()
        return
    columns = ("model", "parameters", *(f"tokens/s, bptt {bptt}" for bptt in BPTT), "result")
    table = Table("models", columns, arguments.write)
    for lesson, models in LESSONS.items():
        for model in models:
            overrides = [choice(model), *(own if "path" in compose_config([choice(model)]).data else [])]
            if model in ONLY_SHORT_WINDOWS:
                _, parameters = speed(overrides)
                cells: list[tuple[Any, str]] = [("–", "")] * len(BPTT)
            else:
                # the validation part has fewer long windows than a training batch
                measured = [speed([*overrides, f"data.bptt={bptt}", "data.valid_batch_size=1"]) for bptt in BPTT]
                parameters = measured[0][1]
                cells = [(tokens, ",.0f") for tokens, _ in measured]
            table.add((f"`{model}`", ""), (parameters, ",d"), *cells, (result(lesson, model), ""))
    table.keep()


if __name__ == "__main__":
    main()
