"""From 1 MB to 1 GB of text: tokenising, memory, and the speed of training.

    python -m benchmarks.scale [--nietzsche FILE] [--folder FOLDER]

Texts of each size are made of the lines of Nietzsche's works, drawn at random, in a folder that needs 3 GB; then each
is trained on for some hundred steps by `train.py`: the first call tokenises, the others find the ids. Three minutes.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.process import Table, nietzsche_text, watch
from lm.text.chunks import whole, without_end
from lm.text.encoding import Recipe, encode_files

MEGABYTES = (1, 10, 100, 1000)
STEPS = 300
REPEATS = 3
COLUMNS = ("text, MB", "characters read, MB/s", "first run, s", "second run, s", "peak MiB", "training, tokens/s")


def make_text(path: Path, lines: list[str], megabytes: int) -> None:
    draw = random.Random(0)
    size = 0
    with open(path, "w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            size += file.write("".join(draw.choices(lines, k=1000)))


def train(text: Path, cache: Path) -> tuple[float, float, float]:
    """Whole seconds, training tokens per second and peak memory in MiB of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "data=text", f"data.train={text}", f"data.cache={cache}"]
        command += [f"trainer.max_steps={STEPS}", "trainer.limit_val_batches=10", f"hydra.run.dir={folder}/run"]
        finished = watch(command)
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
        return finished.seconds, result["tokens_per_second"], finished.memory


def tokenise(text: Path, tokenizer: str) -> float:
    """MB per second, into a new cache, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=text.parent) as cache:
        started = time.perf_counter()
        train_piece, valid_piece = without_end(whole(text), 0.1, words=tokenizer != "characters")
        encode_files(train_piece, valid_piece, Recipe(tokenizer, False, 1, 4096), cache)
        return text.stat().st_size / 1e6 / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nietzsche", metavar="FILE", help="a copy of the text, instead of the download")
    parser.add_argument("--folder", help="where the texts are made, and deleted again")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    arguments = parser.parse_args()
    lines = nietzsche_text(arguments.nietzsche).splitlines(keepends=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = Table("scale", COLUMNS, arguments.write)
        for megabytes in MEGABYTES:
            text, cache = Path(folder) / f"{megabytes}.txt", Path(folder) / "cache"
            make_text(text, lines, megabytes)
            rate = tokenise(text, "characters")
            first, _, _ = train(text, cache)
            runs = [train(text, cache) for _ in range(REPEATS)]
            second, speed, memory = (median(values) for values in zip(*runs, strict=True))
            table.add(
                (megabytes, ","), (rate, ".0f"), (first, ".1f"), (second, ".1f"), (memory, ".0f"), (speed, ",.0f")
            )
            if megabytes == 100:
                others = [f"{name} {tokenise(text, name):.1f} MB/s" for name in ("words", "bpe")]
        table.show(f"\nThe 100 MB as other tokens: {', '.join(others)}.")
        table.keep()


if __name__ == "__main__":
    main()
