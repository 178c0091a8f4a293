"""Labels for the words of a text: `python -m lm.tag CKPT < text.txt`; `--redact NP` blacks out spans instead."""

import argparse
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from lm.tagging.checkpoint import TrainedTagger
from lm.tagging.columns import read_columns
from lm.tagging.schemes import Scheme
from lm.tagging.spans import spans
from lm.tagging.words import Place, places
from reading.text import OPTION, UTF_8, known_encoding, marked, read_argument
from unroll.errors import UserError
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.state import State
from unroll.terminal import errors_in_one_line

BLACK = "\N{FULL BLOCK}"


class Reader:
    """Labels words as they come.

    Args:
        loaded: the model; one that was trained on a stream keeps its state between calls.
    """

    def __init__(self, loaded: TrainedTagger) -> None:
        self.loaded = loaded
        self.state: State = None

    @torch.inference_mode()
    def label(self, words: Sequence[str], extras: dict[str, list[str]] | None = None) -> list[str]:
        """The labels of the words of a sentence, or of the next words of a stream.

        Args:
            words: as in the text.
            extras: the values of each further column that the model reads.
        """
        if not words:
            return []
        inputs = self.loaded.encoder.encode(words, extras).long()[None]
        scores, state = self.loaded.model(inputs, self.state)
        if self.loaded.streams:
            self.state = state
        found = self.loaded.model.labels(scores, torch.ones_like(inputs[..., 0], dtype=torch.bool))[0]  # type: ignore[operator]
        return [self.loaded.encoder.labels[number] for number in found.tolist()]


def redacted(text: str, words: Sequence[Place], labels: Sequence[str], kind: str, scheme: Scheme) -> str:
    """The text with the spans of a type blacked out, blanks between their words too.

    Args:
        words: where its words are, in order.
        labels: of the words.
        kind: the type, such as NP.
        scheme: of the labels.
    """
    for span in spans(labels, scheme):
        if span.kind == kind:
            start, stop = words[span.start].start, words[span.stop - 1].stop
            text = text[:start] + BLACK * (stop - start) + text[stop:]
    return text


def lines_of(files: Sequence[str], encoding: str = UTF_8) -> Iterator[str]:
    """The lines of the files, or of standard input, as they come.

    Args:
        files: their names; `-`: standard input.
        encoding: of all; a byte order mark overrules it.

    Raises:
        UserError: a file can't be read.
    """
    for file in files or ["-"]:
        if file != "-":
            yield from io.StringIO(read_argument(file, encoding), newline=None)
            continue
        stdin: Any = sys.stdin
        stdin.reconfigure(encoding=marked(stdin.buffer.peek(4)[:4]) or encoding)
        try:
            yield from stdin
        except UnicodeError:
            raise UserError(f"standard input: not {encoding} text; {OPTION}NAME says which it is") from None


def tag_columns(reader: Reader, lines: Iterable[str], columns: list[str]) -> None:
    """Labels text that has a word per line: each line is printed with its label behind it."""
    word, extras = columns[0], reader.loaded.encoder.extras
    for sentence in read_columns("".join(lines), columns, "the text").sentences:
        values = {name: [line[at] for line in sentence] for at, name in enumerate(columns)}
        for line, label in zip(
            sentence, reader.label(values[word], {name: values[name] for name in extras}), strict=True
        ):
            print(*line, label, sep="\t")
        print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lm.tag", description="Labels for the words of a text.")
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("files", metavar="FILE", nargs="*", help="texts (default, and -: standard input)")
    parser.add_argument("--redact", metavar="LABEL", help="print the text with these spans blacked out")
    parser.add_argument("--columns", metavar="NAMES", help="a word per line, with these columns: word,pos")
    parser.add_argument("--encoding", default=UTF_8, metavar="NAME", help="of the texts (default: %(default)s)")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_intermixed_args()
    with errors_in_one_line():
        reader = Reader(TrainedTagger.load(checkpoint_file(arguments.checkpoint), class_named(arguments.model)))
        columns = (arguments.columns or "word").split(",")
        encoder = reader.loaded.encoder
        if missing := [name for name in encoder.extras if name not in columns[1:]]:
            raise UserError(
                f"the model reads {', '.join(missing)} too: give a word per line and --columns word,{','.join(missing)}"
            )
        kinds = encoder.scheme.kinds(encoder.labels)
        if arguments.redact is not None and arguments.redact not in kinds:
            raise UserError(f"--redact {arguments.redact}: choose from: {', '.join(kinds)}")
        if arguments.redact is not None and arguments.columns is not None:
            raise UserError("--redact blacks out running text; leave --columns out")
        lines = lines_of(arguments.files, known_encoding(arguments.encoding))
        if arguments.columns is not None:
            tag_columns(reader, lines, columns)
            return
        for line in lines:  # a sentence each, or the next words of a stream
            where = places(line, encoder)
            words = [line[start:stop] for start, stop in where]
            labels = reader.label(words)
            if arguments.redact is not None:
                print(redacted(line, where, labels, arguments.redact, encoder.scheme), end="", flush=True)
            else:
                for word, label in zip(words, labels, strict=True):
                    print(word, label, sep="\t", flush=True)
                print(flush=True)
