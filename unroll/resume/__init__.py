"""Checkpoints that resume exactly, and everything that touches Lightning's internals."""
