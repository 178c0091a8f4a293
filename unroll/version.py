"""The version of the installation, which its tag gave it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("unroll-rnn")
except PackageNotFoundError:  # a checkout that is on the path and has not been installed
    __version__ = "0+unknown"
