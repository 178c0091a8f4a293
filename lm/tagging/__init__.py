"""A label for every word: data, model, learner and the command `python -m lm.tag`."""
