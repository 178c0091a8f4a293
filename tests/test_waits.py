"""What waits for a GPU fails or is seen on PyTorch's "meta" device, whose tensors have no values: a step that asks for
one, and a copy from the host."""

import traceback
from collections import Counter

import numpy
import pytest
import torch
from torch.overrides import TorchFunctionMode

import vision.models
from lm.documents.learner import DocumentClassifier
from lm.documents.model import Classifier
from lm.language import CharSeq
from lm.language.learner import LanguageModel
from lm.tagging.learner import TaggingLearner
from lm.tagging.model import Tagger
from series.learner import ForecastLearner
from series.model import Forecaster
from series.scale import Scale
from series.windows import ForecastWindows, Span
from unroll.device import sent
from unroll.streams import IndependentWindows, Stream, WholeSequences
from vision.data.batches import ImageBatches, Images
from vision.learner import ImageClassifier

DEVICE = torch.device("meta")
TOKENS = torch.randint(9, (200,))
DOCUMENTS = TOKENS.split([30, 50, 7, 23, 40, 50])


class Waits(TorchFunctionMode):
    """Counts what would wait for a GPU. It finds every number to be other than zero and than all others."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = self.result(function, args, kwargs or {})
        if self.waits(function, args, kwargs or {}, result):
            self.found[function.__name__] += 1
        return result

    @staticmethod
    def result(function, args, kwargs):
        if function is torch.Tensor.nonzero and args[0].device == DEVICE:
            return torch.zeros(args[0].numel(), args[0].dim(), dtype=torch.int64, device=DEVICE)
        if function is torch.Tensor.unique and args[0].device == DEVICE:
            return args[0], torch.arange(len(args[0]), device=DEVICE)
        return function(*args, **kwargs)

    @staticmethod
    def waits(function, args, kwargs, result):
        if function in (torch.Tensor.nonzero, torch.Tensor.unique):
            return args[0].device == DEVICE
        if function is torch.Tensor.__getitem__:
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            return args[0].device == DEVICE and any(map(is_on_the_host, index))
        if function is torch.Tensor.to and args[0].device != result.device:
            return sent.__name__ not in [frame.name for frame in traceback.extract_stack(limit=4)]
        return function in (torch.tensor, torch.Tensor.new_tensor) and result.device == DEVICE


def is_on_the_host(index):
    return isinstance(index, (list, range, numpy.ndarray)) or (torch.is_tensor(index) and index.device != DEVICE)


def images():
    return ImageBatches(
        Images(torch.zeros(9, 3, 32, 32, dtype=torch.uint8), torch.arange(9)), 4, True, pad=2, flip=True
    )


def forecasts():
    spans = [Span("", torch.randn(length, 3), 0, length - 4, Scale.unscaled(3), [1.0] * 3) for length in (60, 41)]
    return ForecastWindows(spans, [0, 1], 4, batch_size=4, bptt=8, parts=3, before=6, season=5, known=[2])


BATCHES = {
    "one sequence": lambda: Stream(TOKENS, 4, 7),
    "documents": lambda: Stream(DOCUMENTS, 4, 7, shuffle=True, warm_up=2),
    "packed": lambda: Stream(DOCUMENTS, 4, 7, packed=True),
    "windows": lambda: IndependentWindows(TOKENS, 4, 7, shuffle=True),
    "whole": lambda: WholeSequences(DOCUMENTS, torch.arange(6), 2, shuffle=True),
    "images": images,
    "forecasts": forecasts,
}


@pytest.mark.parametrize("name", BATCHES)
def test_batches_are_cut_from_data_on_the_device_without_waiting(name):
    batches = BATCHES[name]()
    batches.move(DEVICE)
    with Waits() as waits:
        devices = {batch[0].device for batch in batches}
    assert devices == {DEVICE}
    assert not waits.found


def steps(learner, batches):
    """What waits in two training steps."""
    learner.to(DEVICE).train().start("train")
    batches.move(DEVICE)
    with Waits() as waits:
        for batch, _ in zip(batches, range(2), strict=False):
            learner.step("train", batch).minimised.backward()
    return waits.found


@pytest.mark.parametrize("kind", ["huber", "quantiles", "normal", "student_t", "negative_binomial"])
@pytest.mark.parametrize("decoder", ["direct", "parallel"])
def test_a_forecaster_waits_once_to_know_what_is_missing(kind, decoder):
    model = Forecaster(3, 4, [0, 1], context=5, known=[2], objective=kind, decoder=decoder, segment=2, missing=True)
    assert steps(ForecastLearner(model), forecasts()) == {"nonzero": 2}


@pytest.mark.parametrize("name", vision.models.__all__)
def test_no_image_model_waits(name):
    assert not steps(ImageClassifier(getattr(vision.models, name)(9), [0.5] * 3, [0.2] * 3), images())


@pytest.mark.parametrize("body", ["awd_lstm", "qrnn"])
def test_a_classifier_of_documents_does_not_wait(body):
    model = Classifier(9, 6, body, bptt=10, max_tokens=20)
    assert not steps(DocumentClassifier(model, "abcdef"), BATCHES["whole"]())


@pytest.mark.parametrize("crf", [False, True])
def test_a_tagger_waits_once_to_know_which_words_there_are(crf):
    words = torch.randint(2, 9, (200, 1 + 5)).split([30, 50, 7, 23, 40, 50])
    batches = WholeSequences(words, DOCUMENTS, 2, shuffle=True)
    assert steps(TaggingLearner(Tagger(9, 9, 9, crf=crf), "abcdefghi"), batches) == {"unique": 2}


def test_a_language_model_of_independent_windows_does_not_wait():
    assert not steps(LanguageModel(CharSeq(9)), BATCHES["windows"]())


def test_what_waits_is_found():
    values = torch.zeros(4, device=DEVICE)
    with Waits() as waits:
        values[[0, 1]], values[torch.arange(2)], values.new_tensor([1.0]), torch.arange(2).to(DEVICE)
    assert waits.found == {"__getitem__": 2, "new_tensor": 1, "to": 1}
    with pytest.raises(RuntimeError, match="meta"):
        bool(values.any())
