"""The classes of documents: `python -m lm.classify CKPT FILE …`."""

from lm.documents.command import main

if __name__ == "__main__":
    main()
