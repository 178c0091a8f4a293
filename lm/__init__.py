"""Recurrent language models trained on streams, with the state carried from batch to batch."""
