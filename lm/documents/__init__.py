"""A class for a document: data, model, learner and the command `python -m lm.classify`."""

PAGE = "docs/documents.md"  # that an error in one line ends with
