"""What every run needs, whatever it learns: configuration, directory, steps, checkpoints, reports."""
