"""The user's files as the tasks read them: text in any encoding, tables of any kind, folders with a class each."""

PAGE = "docs/files.md"  # that an error in one line ends with
