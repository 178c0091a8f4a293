"""Runs the model beside this file with NumPy and onnxruntime: it writes, or labels or classifies standard input."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import onnxruntime

ABOUT = json.loads(Path(__file__).with_name("model.json").read_text(encoding="utf-8"))
IDS = {token: number for number, token in enumerate(ABOUT["vocabulary"])}
WINDOW = ABOUT["window"]


class Model:
    def __init__(self, file="model.onnx", rows=1):
        self.session = onnxruntime.InferenceSession(Path(__file__).with_name(file))
        states = ABOUT["states"].items()  # null in a shape: the number of rows
        self.state = {name: np.full([size or rows for size in shape], start, "f") for name, (shape, start) in states}

    def read(self, window):  # int64 [rows, time, …]; the state is kept for the next window
        output, *more = self.session.run(None, {"inputs": np.asarray(window, np.int64), **self.state})
        self.state = dict(zip(self.state, more))
        return output

    def split(self, text):
        text = (text.lower() if ABOUT["lower"] else text).replace("\n", ABOUT["line_end"])
        return list(text) if ABOUT["tokenizer"] == "characters" else re.findall(ABOUT["pattern"], text)

    def write(self, prompt, length, temperature, noise):  # a temperature of 0: always the most likely token
        tokens = [IDS[token] for token in self.split(prompt)]
        for token in tokens[:-1] if self.state else []:
            self.read([[token]])
        for _ in range(length):
            scores = self.read([tokens[-WINDOW:]])[0, -1]
            scores[ABOUT["never"]] = -np.inf
            scores = scores / temperature + noise.gumbel(size=len(scores)) if temperature else scores
            tokens.append(int(scores.argmax()))
            yield ABOUT["between"] + ABOUT["vocabulary"][tokens[-1]]
        self.read([tokens[-WINDOW:]])  # so that the state has seen the last token too

    def label(self, words):  # each with its further columns: [["dog", "NN"], …]
        inputs = np.zeros((-(-len(words) // WINDOW) * WINDOW, ABOUT["columns"]), np.int64)  # padded behind
        for row, (word, *columns) in zip(inputs, words):
            known = re.sub(ABOUT["zeroed"], "0", word.lower() if ABOUT["lower_words"] else word)
            further = [values.get(column, 1) for values, column in zip(ABOUT["extras"], columns)]
            spelled = word if len(word) <= ABOUT["longest_word"] else word[:10] + word[-10:]
            ids = [IDS.get(known, 1), *further, *(ABOUT["characters"].get(letter, 1) for letter in spelled)]
            row[: len(ids)] = ids
        labels = [self.read([part])[0] for part in np.split(inputs, len(inputs) // WINDOW)] if words else []
        return [ABOUT["labels"][number] for number in np.ravel(labels)[: len(words)].astype(int)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--greedy", action="store_true")
    options = {"prompt": ABOUT.get("prompt"), "length": 400, "temperature": 0.8, "seed": np.random.randint(2**31)}
    for name, default in {**options, "load": "", "save": "", "model": "model.onnx"}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    given = parser.parse_args()
    model, noise = Model(given.model), np.random.default_rng(given.seed)
    model.state.update(np.load(given.load) if given.load else {})
    if ABOUT["kind"] == "language_model":
        if (unknown := {*model.split(given.prompt)} - {*IDS}) or not given.prompt:
            parser.error(f"--prompt must have a token, and none that the model does not know: {sorted(unknown)}")
        print(given.prompt, end="", flush=True)
        for text in model.write(given.prompt, given.length, 0 if given.greedy else given.temperature, noise):
            print(text, end="", flush=True)
        print()
    elif ABOUT["kind"] == "tagger":
        for line in open(0, encoding="utf-8"):
            words = [word.rsplit("/", len(ABOUT["extras"])) for word in model.split(line)]
            print(*(f"{word[0]}\t{label}" for word, label in zip(words, model.label(words))), "", sep="\n", flush=True)
    else:
        for token in model.split(open(0, encoding="utf-8").read())[:: ABOUT["direction"]]:
            (scores,) = model.read([[IDS.get(token, ABOUT["unknown"])]])
        print(ABOUT["classes"][scores.argmax()], f"{1 / np.exp(scores - scores.max()).sum():.3f}")
    if given.save:
        np.savez(given.save, **model.state)
