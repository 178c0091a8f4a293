"""A page on which a model can be watched while it writes and reads: `python -m lm.explore CKPT`."""
