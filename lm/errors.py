"""What went wrong, in words meant for the person who typed the command."""


class UserError(ValueError):
    """Something a user gave is wrong; the message is one line that says what, and what would be right."""
