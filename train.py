"""Trains recurrent models: language models on streams of text, taggers and classifiers of text, forecasters of numbers
over time; and image classifiers.

  python train.py                                  the lesson's GRU on human numbers
  python train.py model=rnn data.bptt=35           another model, another window
  python train.py data=text data.train=FILE        a text of your own
  python train.py model=tagger                     a label for every word
  python train.py model=classifier                 a class for a document
  python train.py model=forecaster data.train=FILE.csv   forecasts of numbers over time
  python train.py model=resnet data=shapes         an image classifier, on generated images
  python train.py -m model=gru data.bptt=8,20,70   a sweep
  python train.py resume=outputs/…                 continues a run that was stopped
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends the program without a traceback

from pathlib import Path  # noqa: E402

from unroll import cli  # noqa: E402

if __name__ == "__main__":
    cli.main(Path(__file__).with_name("conf"), description=__doc__)
