"""Models as ONNX or PT2 files, with a program that runs them without torch: `python -m lm.export`."""
