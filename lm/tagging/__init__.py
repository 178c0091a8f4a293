"""A label for every word: data, model, learner and the command `python -m lm.tag`."""

PAGE = "docs/tagging.md"  # that an error in one line ends with
