"""`python -m training.report`, by the name that it had when all runs were of text."""

from training.report import main

if __name__ == "__main__":
    main()
