"""What went wrong, in words meant for the person who typed the command."""


class UserError(ValueError):
    """Something a user gave is wrong; the message is one line that says what, and what would be right."""


class Interrupted(SystemExit):
    """A signal has ended the run where it can be resumed; a SystemExit, so that a sweep ends with it."""
