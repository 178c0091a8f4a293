"""From texts to ids: small files in memory, large ones as files of ids that are written once and then mapped."""

import hashlib
import json
import mmap
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy
import torch
from torch import Tensor

from lm.text.chunks import CHUNK, Chunk, Readable, chunks_of
from lm.text.files import checksum
from lm.text.tokenizers import Tokenizer, learn_bpe
from lm.text.vocabulary import Vocabulary
from unroll.checks import is_of
from unroll.files import locked, read_json
from unroll.training.cache import cache_folder, shown_progress

Result = TypeVar("Result")

FORMAT = 2
DESCRIPTION = "vocabulary.json"
IN_MEMORY = 4 * CHUNK  # bytes of text; larger files are cached as ids
BPE_SAMPLE = 64  # chunks that byte pairs are learnt from, evenly spread over the text
MOST_ON_WINDOWS = 61  # processes that one can wait for there; ProcessPoolExecutor refuses more
TYPES = ("uint8", "uint16", "int32")


@dataclass
class Encoded:
    """The ids of a training and of a validation text (int64, or the smallest type that fits), and their vocabulary."""

    vocabulary: Vocabulary
    train: Tensor
    valid: Tensor
    maps: list[mmap.mmap] = field(default_factory=list)

    def release_pages(self) -> None:
        """Releases the pages of the mapped files that have been read, which count as this process's memory."""
        for mapped in self.maps:
            if hasattr(mapped, "madvise"):  # Windows does without
                mapped.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Recipe:
    """What determines the ids, beside the text.

    Args:
        tokenizer, lower: as for `Tokenizer`.
        min_freq: as for `Vocabulary.build`; for "bpe" as for `learn_bpe`.
        vocab_size: of "bpe".
        unknown, frequent_first: as for `Vocabulary.of_counts`.
        known: the tokens, where the text does not determine them; "bpe" has its `model` then.
    """

    tokenizer: str
    lower: bool
    min_freq: int
    vocab_size: int | None = None
    unknown: bool = True
    frequent_first: bool = False
    known: tuple[str, ...] | None = None
    model: str | None = None

    def vocabulary(self, chunks: Sequence[Readable], run: "Runner") -> Vocabulary:
        if self.known is not None:
            return Vocabulary(self.known, Tokenizer(self.tokenizer, self.lower, self.model))
        if self.tokenizer == "bpe":
            assert self.vocab_size is not None
            sample = chunks[:: max(1, len(chunks) // BPE_SAMPLE)]
            tokenizer = learn_bpe((chunk.read() for chunk in sample), self.vocab_size, self.lower, self.min_freq)
            return Vocabulary.of_counts({}, tokenizer)
        tokenizer = Tokenizer(self.tokenizer, self.lower)
        total: Counter[str] = Counter()
        for counts in run(count, tokenizer, chunks):
            total.update(counts)
        return Vocabulary.of_counts(total, tokenizer, self.min_freq, self.unknown, self.frequent_first)


Runner = Callable[[Callable[[Any, Readable], Any], Any, Sequence[Any]], Iterator[Any]]


def count(tokenizer: Tokenizer, chunk: Readable) -> Counter[str]:
    return tokenizer.count(chunk.read())


def number(vocabulary_and_type: tuple[Vocabulary, str], chunk: Readable) -> numpy.ndarray:
    vocabulary, dtype = vocabulary_and_type
    return vocabulary.numbers(chunk.read(), dtype)


def encode(train: Readable, valid: Readable, recipe: Recipe) -> Encoded:
    """The ids of two texts, in memory, int64; the vocabulary is that of the training text."""
    vocabulary = recipe.vocabulary([train], serially)
    ids = [torch.from_numpy(vocabulary.numbers(text.read(), "int64")) for text in (train, valid)]
    return Encoded(vocabulary, ids[0], ids[1])


def encode_files(train: Chunk, valid: Chunk, recipe: Recipe, cache: str | Path | None = None) -> Encoded:
    """The same for two texts in files; the ids of large ones are written to files and mapped.

    Large texts are read in chunks by as many processes as there are cores, and their ids kept under `cache` (by
    default the user's cache folder) in a folder named by the content and the recipe. The folder appears whole or not at
    all; of processes that need the same one, the first writes it and the others wait.

    Raises:
        UserError: a file is not UTF-8 text, or the recipe's tokenizer is not installed.
    """
    if len(train) + len(valid) <= IN_MEMORY:
        return encode(train, valid, recipe)
    folder = cache_folder(cache)
    sums = [(checksum(chunk.path, folder), chunk.start, chunk.stop) for chunk in (train, valid)]
    key = hashlib.sha256(repr((FORMAT, sums, recipe)).encode()).hexdigest()[:32]
    kept = folder / "ids" / key
    with locked(folder / "ids" / f"{key}.lock"):
        description = read_json(kept / DESCRIPTION)
        if not is_whole(kept, description):
            description = write(train, valid, recipe, kept)
    return mapped(kept, description)


def write(train: Chunk, valid: Chunk, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Writes the folder with the ids of both texts; returns its description."""
    size = len(train) + len(valid)
    print(f"reading {size / 1e6:,.0f} MB of text once; the ids are kept in {folder}", file=sys.stderr)
    unfinished = folder.with_suffix(".unfinished")
    for leftover in (folder, unfinished):
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with shown_progress(size if recipe.tokenizer == "bpe" else len(train) + size) as advance:
            run = in_processes(advance)
            chunks = {"train": list(chunks_of(train)), "valid": list(chunks_of(valid))}
            vocabulary = recipe.vocabulary(chunks["train"], run)
            dtype = next(name for name in TYPES if len(vocabulary) <= numpy.iinfo(name).max + 1)
            sizes = {}
            for split, of_split in chunks.items():
                with open(unfinished / f"{split}.bin", "wb") as file:
                    sizes[split] = sum(file.write(ids) for ids in run(number, (vocabulary, dtype), of_split))
        description = {
            "dtype": dtype,
            "bytes": sizes,
            "entries": vocabulary.entries,
            "tokenizer": vocabulary.tokenizer.settings(),
        }
        (unfinished / DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
        os.replace(unfinished, folder)
        return description
    except OSError as error:
        error.filename = error.filename or str(folder)  # a full disk names no file
        raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def is_whole(folder: Path, description: dict[str, Any]) -> bool:
    with suppress(OSError, AttributeError, KeyError, TypeError):
        if description["dtype"] not in TYPES or not is_of(description["entries"], list[str]):
            return False
        return all((folder / f"{split}.bin").stat().st_size == size for split, size in description["bytes"].items())
    return False


def mapped(folder: Path, description: dict[str, Any]) -> Encoded:
    vocabulary = Vocabulary(description["entries"], Tokenizer(**description["tokenizer"]))
    maps, ids = [], []
    for split in ("train", "valid"):
        path = folder / f"{split}.bin"
        if path.stat().st_size == 0:  # an empty file can't be mapped
            ids.append(torch.empty(0, dtype=torch.int64))
            continue
        with open(path, "rb") as file:  # copy on write, as torch warns about read-only memory
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        ids.append(torch.frombuffer(maps[-1], dtype=getattr(torch, description["dtype"])))
    return Encoded(vocabulary, ids[0], ids[1], maps)


# Chunk by chunk, in this process or in several


def serially(function: Callable[[Any, Chunk], Result], settings: Any, chunks: Sequence[Chunk]) -> Iterator[Result]:
    return (function(settings, chunk) for chunk in chunks)


def in_processes(advance: Callable[[int], None]) -> Runner:
    """As `serially`, in several processes; results come in order, and few of them wait in memory."""

    def run(function: Callable[[Any, Chunk], Result], settings: Any, chunks: Sequence[Chunk]) -> Iterator[Result]:
        workers = worker_count()
        start = "fork" if sys.platform == "linux" else "spawn"
        with ProcessPoolExecutor(workers, multiprocessing.get_context(start), set_job, (function, settings)) as pool:
            waiting: deque[tuple[int, Any]] = deque()
            for chunk in chain(chunks, [None] * 2 * workers):
                if chunk is not None:
                    waiting.append((len(chunk), pool.submit(work, chunk)))
                if waiting and (chunk is None or len(waiting) > 2 * workers):
                    size, future = waiting.popleft()
                    yield future.result()
                    advance(size)

    return run


def worker_count() -> int:
    cores = os.cpu_count() or 1
    return min(cores, MOST_ON_WINDOWS) if sys.platform == "win32" else cores


job: tuple[Callable[[Any, Chunk], Any], Any]  # of a worker process


def set_job(function: Callable[[Any, Chunk], Any], settings: Any) -> None:
    global job
    job = function, settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends the others
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are as many processes as cores already


def work(chunk: Chunk) -> Any:
    function, settings = job
    return function(settings, chunk)
