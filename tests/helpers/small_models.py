"""Checkpoints of small models that were not trained, with weights and running statistics unlike those of new ones."""

import torch
from torch import nn

from lm.documents.model import Classifier
from lm.tagging.encoder import Ids, WordEncoder
from lm.tagging.model import Tagger
from lm.tagging.schemes import Scheme
from lm.text.tokenizers import Tokenizer
from lm.text.vocabulary import Vocabulary
from series.model import Forecaster
from unroll.resume.checkpoint import KEY, describe
from vision.models import SimpleNet

TEXT = "the cat sat on the mat and the dog ran to the red house\n"
CHARACTERS = Vocabulary.build(Tokenizer("characters").split(TEXT), Tokenizer("characters"))
SPLIT = Vocabulary.build(Tokenizer("whitespace").split(TEXT), Tokenizer("whitespace"))
WORDS = Vocabulary.build(Tokenizer("words").split(TEXT), Tokenizer("words"))


def save(path, model, arguments, data, scale=2.0):
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "running" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point():
                tensor.mul_(scale)
    weights = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"state_dict": weights, KEY: describe(model, arguments, data)}, path)
    return path


def of_text(vocabulary):
    return {"vocabulary": vocabulary.entries, "tokenizer": vocabulary.tokenizer.settings()}


def save_language_model(path, model_class, vocabulary=CHARACTERS, **settings):
    torch.manual_seed(0)
    arguments = {"vocab_size": len(vocabulary), "hidden_size": 16, **settings}
    prompt = vocabulary.tokenizer.join(vocabulary.tokenizer.split(TEXT)[:9])
    data = {**of_text(vocabulary), "context": getattr(model_class, "only_window", 3), "prompt": prompt, "excerpt": TEXT}
    return save(path, model_class(**arguments), arguments, data)


def save_tagger(path, extras=False, **settings):
    torch.manual_seed(0)
    encoder = WordEncoder(
        words=Ids.of(["the", "cat", "000"]),
        characters=Ids.of("thecad0-"),
        extras={"pos": Ids.of(["DT", "NN"])} if extras else {},
        labels=["O", "B-NP", "I-NP"],
        scheme=Scheme(),
        lower=True,
        zero_digits=True,
    )
    sizes = {"embedding_size": 8, "hidden_size": 8, "filters": 8}
    columns = {"characters": len(encoder.characters), "extras": [len(ids) for ids in encoder.extras.values()]}
    arguments = {"vocab_size": len(encoder.words), "labels": 3, **columns, **sizes, **settings}
    model = Tagger(**arguments)
    if model.crf is not None:
        nn.init.normal_(model.crf.transitions)
    layout = "sentences" if model.whole else "stream"
    # units of a minimal GRU have no bound: large ones are rounded more coarsely than what is compared
    scale = 1.0 if settings.get("body", "").startswith("min_") else 2.0
    return save(path, model, arguments, {**encoder.description(), "layout": layout}, scale)


def save_classifier(path, backwards=False, **settings):
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "hidden_size": 8, "head_size": 8, "bptt": 5}
    arguments = {"vocab_size": len(WORDS), "classes": 3, **sizes, **settings}
    data = {**of_text(WORDS), "classes": ["a", "b", "c"], "backwards": backwards}
    return save(path, Classifier(**arguments), arguments, data)


def save_forecaster(path, **settings):
    torch.manual_seed(0)
    columns = ["a", "b"]
    arguments = {"features": 2, "horizon": 1, "last": [0, 1], "context": 4, "hidden_size": 8, **settings}
    file = {"series": None, "time": None, "gaps": "refuse"}
    covariates = {"known": [], "calendar": [], "static": {}}
    data = {"columns": columns, "targets": columns, "horizon": 1, "counts": False, "file": {**file, "static": []}}
    data |= {"covariates": covariates, "scales": {}, "log": None, "season": 1}
    return save(path, Forecaster(**arguments), arguments, data, 1.0)


def save_image_classifier(path, **settings):
    torch.manual_seed(0)
    arguments = {"classes": 2, "hidden_size": 8, **settings}
    data = {"classes": ["cat", "dog"], "size": 32, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    return save(path, SimpleNet(**arguments), arguments, data)
