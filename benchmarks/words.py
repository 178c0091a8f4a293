"""Word models beside PyTorch's own example, `word_language_model/main.py`: speed, loss and memory.

    python -m benchmarks.words EXAMPLE --ptb PATH --text FILE FILE [--epochs 2] [--write FOLDER]

EXAMPLE is the folder of that name in a checkout of github.com/pytorch/examples. Both train its default model (an LSTM
of 2 × 200 units, windows of 35 words in 20 rows, SGD at a rate of 20, dropout 0.2) on the same words, first on the Penn
Treebank's 10,000 and then on the first 33,000 different ones of the given texts, split at white space. Whole commands,
one after the other. Tokens per second are over the epochs, validation included.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

from benchmarks.process import Table, watch
from lm.language.penn import part
from lm.text.tokenizers import END_OF_LINE, Tokenizer
from lm.text.vocabulary import MARKED_UNKNOWN

ROWS, BPTT, UNITS = 20, 35, 200
DIFFERENT = 33_000  # words of the second vocabulary
SPLITS = ("train", "valid", "test")
AS_THE_EXAMPLE = [
    *[
        "model=awd_lstm",
        f"model.embedding_size={UNITS}",
        f"model.hidden_size={UNITS}",
        "model.tie=false",
        "model.init_range=0.1",
    ],
    *["model.input_dropout=0.2", "model.hidden_dropout=0.2", "model.output_dropout=0.2", "model.weight_drop=0"],
    *["data=text", "data.tokenizer=whitespace", f"data.bptt={BPTT}", f"data.batch_size={ROWS}"],
    *["optimizer=sgd", "optimizer.lr=20", "optimizer.momentum=0", "schedule=constant"],
    *["trainer.gradient_clip_val=0.25", "threads=2"],
]


class Run(NamedTuple):
    """Training tokens per second, the last epoch's validation loss, and the peak of memory in MiB."""

    speed: float
    loss: float
    memory: float


def penn(path: Path) -> list[str]:
    return [part(path, f"ptb.{split}.txt") for split in SPLITS]


def books(paths: Sequence[Path]) -> list[str]:
    """The texts as one. The first part, up to `DIFFERENT` words, has the vocabulary; after it other words are unknown.

    A ninth of its length more is for training, so that the unknown word is learnt; then a 20th for each other split.
    """
    words = Tokenizer("whitespace").split("\n".join(path.read_text(encoding="utf-8") for path in paths))
    known = {MARKED_UNKNOWN}
    for word in words:
        if len(known) == DIFFERENT and word not in known:
            break
        known.add(word)
    first = words.index(word)
    marked = [word if word in known else MARKED_UNKNOWN for word in words]
    cuts = [0, *(round(share * first) for share in (1.11, 1.16, 1.21))]
    texts = [" ".join(marked[start:stop]) for start, stop in pairwise(cuts)]
    return [text.replace(f" {END_OF_LINE} ", "\n") for text in texts]


def example(script: Path, data: Path, epochs: int, tokens: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--data", str(data), "--epochs", str(epochs), "--save", f"{folder}/model.pt"]
        finished = watch([sys.executable, str(script), *arguments])
    seconds = sum(map(float, re.findall(r"end of epoch.*time: +([\d.]+)s", finished.output)))
    perplexities = re.findall(r"valid loss +([\d.]+)", finished.output)
    return Run(epochs * tokens / seconds, float(perplexities[-1]), finished.memory)


def ours(data: Path, epochs: int, overrides: Sequence[str]) -> Run:
    files = [f"data.{split}={data / split}.txt" for split in ("train", "valid")]
    with tempfile.TemporaryDirectory() as folder:
        more = [*overrides, f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}/run"]
        finished = watch([sys.executable, "train.py", *AS_THE_EXAMPLE, *files, *more])
        result = json.loads((Path(folder) / "run" / "result.json").read_text())
    return Run(result["tokens_per_second"], result["metrics"]["valid/loss"], finished.memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("example", type=Path, metavar="EXAMPLE", help="the example's folder")
    parser.add_argument("--ptb", type=Path, metavar="PATH", help="the Penn Treebank, as for data=ptb data.path=")
    parser.add_argument("--text", type=Path, nargs="+", metavar="FILE", help="texts with many different words")
    parser.add_argument("--epochs", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="keep the table and the metrics there")
    given = parser.parse_args()
    columns = ("vocabulary", "training tokens", "", "tokens/s", "times the example", "valid loss", "peak MiB")
    table = Table("words", columns, given.write)
    for texts in [*([penn(given.ptb)] if given.ptb else []), *([books(given.text)] if given.text else [])]:
        with tempfile.TemporaryDirectory() as folder:
            for split, text in zip(SPLITS, texts, strict=True):
                (Path(folder) / f"{split}.txt").write_text(f"{text}\n", encoding="utf-8")
            words = Tokenizer("whitespace").split(texts[0])
            runs = {
                "PyTorch's example": example(
                    given.example.resolve() / "main.py", Path(folder), given.epochs, len(words)
                )
            }
            for precision, head in product(("32-true", "bf16-mixed"), ("linear", "adaptive")):
                overrides = [f"model.head={head}", f"trainer.precision={precision}"]
                runs[f"`model.head={head}`, {precision}"] = ours(Path(folder), given.epochs, overrides)
            first = next(iter(runs.values()))
            for name, run in runs.items():
                table.add(
                    (len(set(words)), ","),
                    (len(words), ","),
                    (name, ""),
                    (run.speed, ",.0f"),
                    (run.speed / first.speed, ".2f"),
                    (run.loss, ".3f"),
                    (run.memory, ",.0f"),
                )
    table.keep()


if __name__ == "__main__":
    main()
