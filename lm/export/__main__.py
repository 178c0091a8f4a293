"""A checkpoint as a file that runs without this project: `python -m lm.export CKPT FOLDER`."""

import argparse
import importlib.util
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lm.export.hub import export_to_hub
from lm.export.steps import LanguageModelStep, Step, load_step
from lm.language.generation import encode_prompt, generate, special_ids, texts
from lm.text.chunks import whole
from unroll.errors import UserError, require
from unroll.resume.checkpoint import checkpoint_file, class_named
from unroll.state import State
from unroll.terminal import errors_in_one_line

RUNNER = Path(__file__).with_name("runner.py")
STEPS = 500  # with a carried state, that both must agree on
WINDOWS = 100  # of a model that carries none
TOLERANCE = 1e-4  # of scores
TOKENS = 200  # of greedy text
SCORED = 2000  # tokens that the cost of 8 bits is measured on
ROWS = (1, 3)
MODEL, INT8, PT2, ABOUT, RUN = "model.onnx", "model_int8.onnx", "model.pt2", "model.json", "run.py"

Reader = Callable[[Tensor, Sequence[Tensor]], list[Tensor]]  # (inputs, states) -> outputs and states, as in the file


def export(step: Step, folder: Path, form: str, int8: bool = False, text: Path | None = None) -> list[str]:
    """Writes the files, and compares them with the model.

    Args:
        step: the model.
        folder: where the files go; it appears, or its files are replaced, once they have been compared.
        form: "onnx" or "pt2".
        int8: write an ONNX file with weights of 8 bits beside the other.
        text: what a language model's loss with such weights is measured on; by default a text that it writes.

    Returns:
        What to tell the user, in lines.

    Raises:
        UserError: the model can't be exported, the file and the model don't agree, or a library is missing.
    """
    if form == "onnx":
        require("this", "export", "onnxscript", "onnxruntime")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        unfinished = Path(name)
        program = exported(step)
        (unfinished / ABOUT).write_text(json.dumps(described(step)) + "\n", encoding="utf-8")
        if form == "pt2":
            torch.export.save(program, unfinished / PT2)
            said = [agreement(step, pt2_reader(unfinished / PT2))]
        else:
            write_onnx(step, program, unfinished / MODEL)
            said = [agreement(step, onnx_reader(unfinished / MODEL, step))]
            if runs_alone(step):
                shutil.copy(RUNNER, unfinished / RUN)
                if isinstance(step, LanguageModelStep):
                    said.append(same_text(step, unfinished))
            else:
                said.append(f"{RUN} is left out: it reads characters or words, and a carried state token by token")
        if int8:
            said.append(quantised(step, unfinished, text))
        folder.mkdir(exist_ok=True)
        for file in (MODEL, INT8, PT2, ABOUT, RUN):  # of an earlier export too
            (folder / file).unlink(missing_ok=True)
        for path in unfinished.iterdir():
            shutil.move(path, folder / path.name)
    return said


def runs_alone(step: Step) -> bool:
    """Whether `run.py` can read its texts."""
    return step.about["tokenizer"] != "bpe" and (step.window == 1 or not step.start)


def names(step: Step) -> list[str]:
    return [f"state_{number}" for number in range(len(step.start))]


def described(step: Step) -> dict[str, Any]:
    states = {
        name: [[None if axis == 1 else size for axis, size in enumerate(part.shape)], part.flatten()[0].item()]
        for name, part in zip(names(step), step.start, strict=True)
    }
    return {**step.about, "states": states}


@contextmanager
def failing_in_one_line(what: str) -> Iterator[None]:
    """torch's exporters raise many kinds of errors, of many lines."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {(str(error).strip() or repr(error)).splitlines()[0]}") from error


@torch.no_grad()
def exported(step: Step) -> Any:
    """The model as a graph of operations, for any number of rows.

    Raises:
        UserError: torch can't make one of it.
    """
    rows = torch.export.Dim.DYNAMIC
    of_states = [tuple({1: rows} for _ in step.start)] if step.start else []
    inputs = step.example(2, torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), failing_in_one_line(f"{step.about['model']} can't be exported by torch"):
        warnings.filterwarnings("ignore", ".*assigned during export")  # nn.RNNBase keeps lists of its weights
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # torch's own
        program = torch.export.export(step, (inputs, *step.starting(2)), dynamic_shapes=({0: rows}, *of_states))
        # Of a single step, products of matrices in the place of ONNX's GRU, which onnxscript has written wrongly (its
        # issue 2852) and onnxruntime does not quantise
        return program.run_decompositions() if step.window == 1 else program


def write_onnx(step: Step, program: Any, path: Path) -> None:
    states = names(step)
    with warnings.catch_warnings(), failing_in_one_line(f"{step.about['model']} can't be written as ONNX"):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["inputs", *states],
                output_names=[*step.outputs[:1], *(f"{name}_after" for name in states), *step.outputs[1:]],
            )
        finally:
            logging.disable(logging.NOTSET)
    made.save(path)


def onnx_reader(path: Path, step: Step) -> Reader:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)

    def read(inputs: Tensor, states: Sequence[Tensor]) -> list[Tensor]:
        given = {name: part.numpy() for name, part in zip(["inputs", *names(step)], [inputs, *states], strict=True)}
        return [torch.from_numpy(found) for found in session.run(None, given)]

    return read


def pt2_reader(path: Path) -> Reader:
    program = torch.export.load(path).module()
    return lambda inputs, states: list(program(inputs, *states))


class Compared(NamedTuple):
    """The largest difference of two scores, and the share of positions at which the same one is the highest."""

    difference: float
    same: float


@torch.no_grad()
def compare(step: Step, read: Reader, rows: int, steps: int = STEPS) -> Compared:
    """A file beside the model over so many windows of random inputs, the state carried by each for itself."""
    generator = torch.Generator().manual_seed(rows)
    state: State = None
    states: Sequence[Tensor] = step.starting(rows)
    difference, same, positions = 0.0, 0, 0
    for _ in range(steps):
        inputs = step.example(rows, generator)
        expected, state = step.reference(inputs, state)
        found = read(inputs, states)
        states = found[1 : 1 + len(states)]
        scores = found[-1] if "scores" in step.outputs[1:] else found[0]
        difference = max(difference, (scores - expected).abs().max().item())
        same += int((scores.argmax(-1) == expected.argmax(-1)).sum())
        positions += scores[..., 0].numel()
    return Compared(difference, same / positions)


def agreement(step: Step, read: Reader) -> str:
    """Says how far a file and the model are apart.

    Raises:
        UserError: too far.
    """
    steps = STEPS if step.start else WINDOWS
    worst = max(compare(step, read, rows, steps).difference for rows in ROWS)
    if not worst <= TOLERANCE:  # nan too
        raise UserError(f"the file and the model differ: scores by up to {worst:.1e}; nothing was written")
    counted = f"{steps} carried steps" if step.start else f"{steps} windows of {step.window}"
    return f"agrees with PyTorch over {counted}: scores differ by {worst:.1e} at most"


def program_of(folder: Path) -> Any:
    """`run.py` of a folder, imported."""
    spec = importlib.util.spec_from_file_location("exported_run", folder / RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def same_text(step: LanguageModelStep, folder: Path) -> str:
    """Compares greedy text by `run.py` with that by `lm.generate`.

    Raises:
        UserError: they differ.
    """
    prompt = step.about["prompt"]
    ids = encode_prompt(step.vocabulary, prompt)
    tokens = generate(step.model, ids, greedy=True, context=step.context, never=special_ids(step.vocabulary))
    expected = "".join(texts(step.vocabulary, islice(tokens, TOKENS)))
    program = program_of(folder)
    if (found := "".join(program.Model().write(prompt, TOKENS, 0, None))) != expected:
        raise UserError(f"{RUN} and lm.generate write different text: {found!r}, {expected!r}; nothing was written")
    return f"{RUN} writes the same {TOKENS} tokens as lm.generate --greedy"


def quantised(step: Step, folder: Path, text: Path | None) -> str:
    """Writes the ONNX file with weights of 8 bits, and says what that costs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(folder / MODEL, folder / INT8, weight_type=QuantType.QInt8)
    finally:
        logging.disable(logging.NOTSET)
    sizes = [f"{(folder / name).stat().st_size / 1e6:.2f}" for name in (MODEL, INT8)]
    said = f"{INT8}: {sizes[1]} MB in the place of {sizes[0]} MB; "
    readers = [onnx_reader(folder / name, step) for name in (MODEL, INT8)]
    if not isinstance(step, LanguageModelStep):
        same = compare(step, readers[1], 1, WINDOWS).same
        return said + f"{same:.1%} of its labels are the same over {WINDOWS} random windows"
    tokens, source = text_to_score(step, text)
    losses = [loss(step, read, tokens) for read in readers]
    return said + f"loss over {source} {losses[1]:.4f} in the place of {losses[0]:.4f} nats per token"


def text_to_score(step: LanguageModelStep, text: Path | None) -> tuple[Tensor, str]:
    """The tokens of a file, or some that the model writes by itself, int64 `[tokens]`, and where they are from."""
    if text is not None:
        try:
            return step.vocabulary.encode(whole(text).read())[: SCORED + 1], f"the first tokens of {text.name}"
        except KeyError as error:
            raise UserError(f"{text}: has {error}, which the model does not know") from None
    prompt = encode_prompt(step.vocabulary, step.about["prompt"])
    tokens = generate(step.model, prompt, seed=0, context=step.context, never=special_ids(step.vocabulary))
    return torch.cat([prompt, torch.tensor([*islice(tokens, SCORED)])]), "a text of its own"


def loss(step: Step, read: Reader, tokens: Tensor) -> float:
    """The mean cross-entropy of each window's last prediction, in nats per token."""
    states: Sequence[Tensor] = step.starting(1)
    total, count = 0.0, 0
    stride = step.window if step.start else 1
    for start in range(0, len(tokens) - step.window, stride):
        scores, *after = read(tokens[None, start : start + step.window], states)
        states = after[: len(states)]
        total -= scores[0, -1].log_softmax(-1)[tokens[start + step.window]].item()
        count += 1
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lm.export", description="A checkpoint as a file that runs without this project."
    )
    parser.add_argument("checkpoint", type=Path, help="a file in the checkpoints/ of a run, or the run directory")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--format", choices=["onnx", "pt2", "hub"], default="onnx", help="(default: %(default)s)")
    parser.add_argument("--window", type=int, help="tokens in a window (default: 1, of whole sentences 128)")
    parser.add_argument("--int8", action="store_true", help="write weights of 8 bits too, and say what that costs")
    parser.add_argument("--text", type=Path, metavar="FILE", help="measure that cost on this text")
    parser.add_argument("--model", metavar="MODULE.CLASS", help="of a model of your own")
    arguments = parser.parse_args()
    with errors_in_one_line():
        if arguments.window is not None and arguments.window < 1:
            raise UserError(f"--window {arguments.window}: must be 1 or more")
        if arguments.int8 and arguments.format != "onnx":
            raise UserError("--int8 is for --format onnx")
        if arguments.window is not None and arguments.format == "hub":
            raise UserError("--window is not for --format hub, whose model reads windows of any length")
        path = checkpoint_file(arguments.checkpoint)
        model = class_named(arguments.model)
        step = load_step(path, model, arguments.window)
        try:
            if arguments.format == "hub":
                said = export_to_hub(step, path, arguments.folder, model)
            else:
                said = export(step, arguments.folder, arguments.format, arguments.int8, arguments.text)
        except OSError as error:
            raise UserError(f"{arguments.folder}: can't be written to ({error.strerror})") from None
        print(*said, sep="\n")
        print(f"everything is in {arguments.folder}")


if __name__ == "__main__":
    main()
