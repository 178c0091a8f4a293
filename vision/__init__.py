"""Image classifiers: the CIFAR-10 ladder, from one hidden layer to a residual network."""

import os
import sys

PAGE = "docs/images.md"  # that an error in one line ends with

# `python -m` looks for modules in the current folder first, and that may be a stranger's run directory.
if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]
