"""Labels for the words of a text: `python -m lm.tag CKPT < text.txt`."""

from lm.tagging.command import main

if __name__ == "__main__":
    main()
