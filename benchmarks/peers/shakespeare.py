"""Character models of tiny Shakespeare beside nanoGPT's recipe for a CPU: loss, seconds, and a plot of both.

    python -m benchmarks.peers.shakespeare NANOGPT [EXPERIMENT …] [--text FILE] [--write FOLDER]

NANOGPT is a checkout of github.com/karpathy/nanoGPT; a copy of it is run, as its README says. Each run is a whole
command, one after the other, and is kept under `outputs/benchmarks/shakespeare/`, so that a call that was stopped
continues with what is missing (`--threads 1`: two calls can run side by side on two cores). Seconds are from the start
of a process to its end, validation included.

Losses are nats per character of the validation part: the whole part in a row with the state carried (`stream`), and
blocks of 64 and 256 characters, each from a state of zeros. nanoGPT scores blocks of 64, drawn at random; its figure is
here the mean of 12,000 of them, ours that of all blocks that do not overlap.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from matplotlib.figure import Figure

from benchmarks.process import ROOT, Table, corpus, epoch_row, watch
from unroll.cli.report.tables import mean_text

OUTPUTS = ROOT / "outputs" / "benchmarks" / "shakespeare"
BLOCKS = (64, 256)
NANOGPT = "nanoGPT"
SEEDS = {"shakespeare_best": 1}  # of others three
AS_ITS_README = [
    *["train.py", "config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20"],
    *["--log_interval=1", "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128"],
    *["--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"],
]
ITS_LOSS = re.compile(r"step \d+: train loss [\d.]+, val loss ([\d.]+)")


def nanogpt(checkout: Path, text: Path) -> dict[str, Any]:
    """Seconds, the loss of many blocks, and the curve of validation losses over the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "nanoGPT"
        shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git"))
        shutil.copy(text, copy / "data" / "shakespeare_char" / "input.txt")
        watch([sys.executable, "data/shakespeare_char/prepare.py"], folder=copy)
        curve: list[tuple[float, float]] = []

        def look(line: str, seconds: float) -> None:
            if found := ITS_LOSS.match(line):
                curve.append((seconds, float(found[1])))

        ended = watch([sys.executable, "-u", *AS_ITS_README], look, copy)
        again = watch([sys.executable, *AS_ITS_README, "--init_from=resume", "--eval_iters=1000"], folder=copy)
    scored = ITS_LOSS.search(again.output)
    assert scored is not None
    return {"seconds": ended.seconds, "curve": curve, "64": float(scored[1])}


def ours(experiment: str, seed: int, text: Path, threads: int) -> dict[str, Any]:
    """Seconds, the losses of both kinds, and the curve of the first over the seconds."""
    run = OUTPUTS / experiment / f"seed_{seed}"
    shutil.rmtree(run, ignore_errors=True)
    curve: list[tuple[float, float]] = []

    def look(line: str, seconds: float) -> None:
        if len(row := epoch_row(line)) == 5:
            curve.append((seconds, row[2]))

    typed = [f"experiment={experiment}", f"seed={seed}", f"data.path={text}", f"threads={threads}"]
    ended = watch([sys.executable, "-u", "train.py", *typed, f"hydra.run.dir={run}"], look)
    result = json.loads((run / "result.json").read_text())
    losses = {"stream": result["metrics"]["valid/loss"]}
    for length in BLOCKS:
        blocks = [
            "data.layout=windows",
            f"data.bptt={length}",
            "data.batch_size=64",
            "data.jitter=false",
            f"threads={threads}",
        ]
        scored = watch([sys.executable, "train.py", "task=evaluate", f"ckpt={run}", *blocks])
        losses[str(length)] = float(re.findall(r"valid/loss +([\d.]+)", scored.output)[0])
    return {"seconds": ended.seconds, "curve": curve, "parameters": result["parameters"], **losses}


def kept(name: str, seed: int, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was measured in an earlier call, or now."""
    path = OUTPUTS / name / f"seed_{seed}.json"
    if not path.exists():
        print(f"{name} seed={seed} …", file=sys.stderr)
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=2) + "\n")
    return json.loads(path.read_text())


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, of_seeds) in enumerate(runs.items()):
        for seed, run in enumerate(of_seeds):
            seconds, losses = zip(*run["curve"], strict=True)
            axes.plot(seconds, losses, f"C{number}.-", label=None if seed else name)
    axes.set_xscale("log")
    axes.set_xticks([10, 30, 100, 300, 1000], ["10", "30", "100", "300", "1000"])
    axes.set_ylim(top=2.6)
    axes.set_xlabel("seconds since the command began")
    axes.set_ylabel("validation loss, nats per character")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("nanogpt", type=Path, metavar="NANOGPT", help="a checkout of it")
    parser.add_argument("experiments", nargs="*", default=["shakespeare_quick"], metavar="EXPERIMENT")
    parser.add_argument("--seeds", type=int, help=f"default: 3, but 1 for {', '.join(SEEDS)}")
    parser.add_argument("--threads", type=int, default=2, help="of our runs; default: %(default)s")
    parser.add_argument("--text", type=Path, metavar="FILE", help="a copy of the text, instead of the download")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table, the metrics and the plot there")
    given = parser.parse_args()
    if not (given.nanogpt / "data" / "shakespeare_char" / "prepare.py").is_file():
        parser.error(f"{given.nanogpt}: is no checkout of nanoGPT")
    text = corpus("shakespeare", given.text)
    runs = {NANOGPT: [kept(NANOGPT, 0, partial(nanogpt, given.nanogpt, text))]}
    for name in given.experiments:
        seeds = given.seeds or SEEDS.get(name, 3)
        runs[name] = [kept(name, seed, partial(ours, name, seed, text, given.threads)) for seed in range(seeds)]

    columns = ("", "seeds", "parameters", "seconds", "stream", *(f"blocks of {length}" for length in BLOCKS))
    table = Table("shakespeare", columns, given.write)
    for name, of_seeds in runs.items():
        losses = [
            (mean_text([run[key] for run in of_seeds], 4) if key in of_seeds[0] else "–", "")
            for key in ("stream", *map(str, BLOCKS))
        ]
        seconds = mean(run["seconds"] for run in of_seeds)
        table.add(
            (name, ""),
            (len(of_seeds), ""),
            (f"{of_seeds[0]['parameters']:,}" if "parameters" in of_seeds[0] else "–", ""),
            (seconds, ".0f"),
            *losses,
        )
    table.keep()
    if given.write:
        draw(runs, given.write / "shakespeare.png")


if __name__ == "__main__":
    main()
