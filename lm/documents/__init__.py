"""A class for a document: data, model, learner and the command `python -m lm.classify`."""
