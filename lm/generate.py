"""Text from a checkpoint: `python -m lm.generate CKPT --prompt "for thos" --length 400`."""

from lm.language.generation import main

if __name__ == "__main__":
    main()
