# Two commands: `make reproduce` makes all five figures from the kept weights, `make test` checks everything.
# PROFILE=smoke, quick, cpu or gpu says how much is spent; a run that was stopped goes on when it is called again.
# On real data: make reproduce PROFILE=paper DATA=FOLDER, which holds a folder for each pair (see docs/paper_data.md); or PROFILE=standin, on two CPU cores.
PYTHON ?= python3
PROFILE ?= quick
DATA ?=
DATA_NAME ?= stand-in
# As it was given; so a $ or a space in a folder's name is no variable's and no end of it.
export DATA_FOLDER := $(value DATA)
export DATA_NAME
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup reproduce unlock test campaign notebooks docs

# On Linux: large memory pages that are not given back make a step on the CPU 1.08 times as fast, bit for bit the same.
reproduce: export GLIBC_TUNABLES = glibc.malloc.hugetlb=1
reproduce: export MALLOC_MMAP_THRESHOLD_ = 1000000000
reproduce: export MALLOC_TRIM_THRESHOLD_ = 1000000000
reproduce: export MALLOC_TOP_PAD_ = 100000000
reproduce: .venv/ready
	@$(PLACE); mkdir -p "$$results"; \
	OMP_NUM_THREADS=1 snakemake --snakefile reproduce/Snakefile --directory "$$results" --cores all --resources gpu=1 --keep-going --rerun-incomplete --quiet rules --config profile=$(PROFILE) "$$@"; \
	status=$$?; python reproduce/run.py --index --profile $(PROFILE) --results "$$(dirname "$$results")" || exit 1; \
	[ $$status = 0 ] || exit $$status; echo "open $$results/index.html"

# Sets $results to the folder of the profile's results, and the words for the data, if some are given.
define PLACE
set --; results=results/$(PROFILE); \
	if [ -n "$$DATA_FOLDER" ]; then \
	folder=$$(python -c 'import os, sys; print(os.path.abspath(sys.argv[1]))' "$$DATA_FOLDER"); \
	results="results/$$(basename "$$folder")/$(PROFILE)"; \
	set -- "data=$$folder" "data_name=$$DATA_NAME"; fi
endef

# After a crash or kill -9, if `make reproduce` says that its folder is locked.
unlock: .venv/ready
	@$(PLACE); \
	snakemake --snakefile reproduce/Snakefile --directory "$$results" --unlock --config profile=$(PROFILE) "$$@"

test: .venv/ready
	SEMST_COURSE_STEPS=30 nbdev_test --path nbs --n_workers 2 --timing
	nbdev_test --path nbs/solutions --n_workers 2
	python -m pytest

# Faults, bad input and load in their long form, an hour of a core; writes docs/reliability.md.
campaign: .venv/ready
	python tests/campaign.py --write

setup: .venv/ready

.venv/ready: settings.ini setup.py pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("semst needs Python 3.11 or newer; name one with: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# For authors: run every notebook, clean it and export the package.
notebooks: .venv/ready
	for nb in nbs/*.ipynb nbs/solutions/*.ipynb; do jupyter nbconvert --to notebook --execute --inplace $$nb || exit 1; done
	nbdev_clean
	nbdev_export

# The site, from the executed notebooks and the docstrings: _docs/index.html.
docs: .venv/ready
	python docs/assemble.py build/site
	sphinx-build -q -W --keep-going -b html -c docs build/site _docs
	@echo "open _docs/index.html"
