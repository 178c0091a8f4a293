# The commands that are repeated most; `make PYTHON=.venv/bin/python test` uses an environment that is not active.
PYTHON ?= python

.PHONY: setup check test slow notebooks docs dist lessons board

setup:  ## an environment with everything
	python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]'

check:  ## what CI checks before the tests
	$(PYTHON) -m ruff format . && $(PYTHON) -m ruff check . && $(PYTHON) -m mypy

test:
	$(PYTHON) -m pytest -n 2

slow:  ## the tests that take minutes
	$(PYTHON) -m pytest -n 2 -m slow

notebooks:  ## executed, in build/notebooks, for the site; needs nbconvert and ipykernel
	mkdir -p build/notebooks && cp notebooks/*.ipynb build/notebooks
	PYTHONPATH=$(CURDIR) $(PYTHON) -m nbconvert --to notebook --execute --inplace build/notebooks/*.ipynb

docs:  ## the site, in build/site/html; needs the extra [docs]
	PYTHONPATH=. $(PYTHON) docs/site/build.py

dist:  ## the library alone, as it would be released, in dist/; needs the extra [release]
	rm -rf dist && $(PYTHON) -m build && $(PYTHON) -m twine check --strict dist/*

lessons:  ## the tables of the lessons
	$(PYTHON) -m benchmarks.lessons human_numbers && $(PYTHON) -m benchmarks.lessons nietzsche

board:
	$(PYTHON) -m tensorboard.main --logdir outputs
