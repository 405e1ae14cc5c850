# The two commands of the README are `make audit` and `make test`; each sets up what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
MODEL  ?= smollm2-135m-instruct
READY  := $(VENV)/.ready
REPORTS ?= reports
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup audit test check lint slow bench conformance layouts simulate examples validate-gate validate-findings docs docs-version notebooks course lock canary licenses sbom dist clean

help:                 ## list the targets
	@sed -n 's/^\([a-z-]*\): *.*## /\1\t/p' $(MAKEFILE_LIST)

# Exact versions of everything, so that the two commands do at any date what they do today: the lock with hashes, then
# torch by version alone, since its build (and the libraries that come with it) differs by machine.
LOCK   := requirements/lock.txt
INSTALL := -m pip install --quiet --disable-pip-version-check

$(READY): pyproject.toml constraints.txt $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "auditkit needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) --require-hashes --no-deps -r $(LOCK)
	$(BIN)/python $(INSTALL) -c constraints.txt torch
	$(BIN)/python $(INSTALL) --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

setup: $(READY)       ## make the environment

# An audit that finds something (1) or cannot decide (10) has done its work: the report says so. Everything else
# is a failure of the audit itself.
audit: $(READY)       ## audit MODEL with every suite and print the path of the report
	@$(BIN)/python -m pytest suites/ --model $(MODEL) --audit-dir $(REPORTS) $(ARGS); code=$$?; \
	 case $$code in 0|1|10) echo "exit code of the audit: $$code (0 pass, 1 fail, 10 undecided)"; \
	   realpath $(REPORTS)/latest/audit.html ;; *) exit $$code ;; esac

# A file's tests stay together, since they share what is slow to make.
test: lint            ## lint, then the unit and model tiers
	$(BIN)/python -m pytest tests/ -m "not slow" -n auto --maxprocesses 4 --dist loadfile $(ARGS)

slow: $(READY)        ## the slow tier
	$(BIN)/python -m pytest tests/ -m slow $(ARGS)

lint: $(READY)        ## format, ruff, the type checker and the house rules
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pytest -q tests/test_layers.py

check: $(READY)       ## before a commit: format, lint and the unit tests of what changed; ARGS=REV for all since REV
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python tools/check.py $(ARGS)

conformance: $(READY) ## write docs/conformance.md: families, checks and adapters
	$(BIN)/python -m pytest -q tests/adapters/test_conformance.py --write-conformance

layouts: $(READY) ## write the table of docs/models.md: layouts of models, read or refused
	$(BIN)/python -m pytest -q tests/adapters/test_layouts.py --write-layouts

bench: $(READY)       ## run every benchmark beside its peers; ARGS=--write stores the tables
	$(BIN)/python $(INSTALL) --require-hashes --no-deps -r requirements/bench.txt
	@set -e; for script in $$(ls benchmarks/*.py | grep -v common.py); do \
	   echo "== $$script"; $(BIN)/python $$script $(ARGS); done

simulate: $(READY)    ## simulate the error rates and write the tables of docs/statistics.md; ARGS="NAME ..." for some
	$(BIN)/python -m auditkit.stats.simulations docs/statistics.md $(ARGS)

examples: $(READY)    ## make the example reports under reports/examples again; ARGS="--only role-conditioning" for one
	$(BIN)/python examples/reports.py $(ARGS)

validate-gate: $(READY) ## train planted and benign fine-tunes, gate them, write docs/validity.md; goes on where it stopped
	$(BIN)/python examples/validate_gate.py --runs 20 $(ARGS)

validate-findings: $(READY) ## train planted and benign fine-tunes of a finding, gate them, write docs/validity.md; goes on where it stopped
	$(BIN)/python tools/validate_findings.py $(ARGS)

# The site is built in an environment of its own, from the pages of this repository alone: no font, script or inventory is
# fetched. A link that leads nowhere, and a page outside the navigation, are errors.
DOCS := .venv-docs
$(DOCS)/.ready: requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python $(INSTALL) --require-hashes --no-deps -r requirements/docs.txt
	@touch $@

docs: $(DOCS)/.ready  ## build the documentation site into .site/html
	rm -rf .site
	$(DOCS)/bin/python tools/docs_site.py .site/src
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

# Versions stand side by side on the branch gh-pages, which mike writes; the reader chooses one in the page's head. Readers
# who name none are led to the version "latest", or to "dev" as long as nothing was released.
docs-version: docs    ## put the site on the branch gh-pages as VERSION, under the other name ALIAS
	git fetch -q origin gh-pages:gh-pages 2>/dev/null || true
	export PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" NO_MKDOCS_2_WARNING=1; \
	  mike deploy --update-aliases "$(VERSION:v%=%)" $(ALIAS) && \
	  mike set-default "$$(mike list | grep -q '\[latest\]' && echo latest || echo dev)"

notebooks: $(READY)   ## run the notebooks of docs/notebooks; ARGS=--overwrite stores what they give
	$(BIN)/python $(INSTALL) --require-hashes --no-deps -r requirements/notebooks.txt
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -q --nbmake --nbmake-timeout 300 docs/notebooks $(ARGS)
	$(BIN)/python tools/strip_notebooks.py docs/notebooks/*.ipynb

course: $(READY)      ## draw the figures of docs/course from simulated experiments
	$(BIN)/python -m auditkit.stats.simulations.course docs/course/figures

lock: $(READY)        ## choose the newest versions that pyproject.toml allows and write requirements/*.txt
	$(BIN)/python $(INSTALL) uv
	$(COMPILE) --extra dev --extra nnterp -o $(LOCK) >/dev/null
	$(COMPILE) --extra dev --extra nnterp --extra bench -o requirements/bench.txt >/dev/null
	$(PINNED) requirements/notebooks.in -c $(LOCK) -o requirements/notebooks.txt >/dev/null
	$(PINNED) requirements/docs.in -o requirements/docs.txt >/dev/null
	$(COMPILE) --extra dev --extra nnterp --extra fleet -c $(LOCK) -o requirements/fleet.txt >/dev/null
	$(COMPILE) --extra dev --extra nnterp --extra track -c $(LOCK) -o requirements/track.txt >/dev/null

PINNED := $(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes \
  --custom-compile-command "make lock"
COMPILE := $(PINNED) pyproject.toml requirements/torch-needs.in --override requirements/overrides.txt -c constraints.txt

# What a release carries and what its packages are licensed under, by two tools in an environment of their own.
TOOLS := .venv-tools
RELEASE_TOOLS := cyclonedx-bom==7.5.0 pip-licenses==5.5.5 build==1.6.1 twine==7.0.0
LOCKED = torch $$(sed -n 's/^\([a-z0-9][a-z0-9._-]*\)==.*/\1/p' $(LOCK) | sort -u)

$(TOOLS)/.ready: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python $(INSTALL) $(RELEASE_TOOLS)
	@touch $@

licenses: $(READY) $(TOOLS)/.ready ## write docs/licenses.md: the licence of every package of the lock
	@{ echo "# Licences"; echo; echo "Of torch and of every package in \`requirements/lock.txt\`, as each states it (\`make licenses\`)."; echo; \
	   $(TOOLS)/bin/pip-licenses --python $(BIN)/python --from=mixed --format=markdown --with-urls --with-system --packages $(LOCKED) \
	   | sed 's/  */ /g; s/---*/--/g'; } > docs/licenses.md

sbom: $(READY) $(TOOLS)/.ready ## write dist/sbom.cdx.json: every installed package, in CycloneDX
	mkdir -p dist
	$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --output-format JSON --output-file dist/sbom.cdx.json

dist: $(TOOLS)/.ready ## build dist/*.whl and dist/*.tar.gz, and check what the package index will read of them
	rm -rf build dist/*.whl dist/*.tar.gz
	$(TOOLS)/bin/python -m build --outdir dist .
	$(TOOLS)/bin/python -m twine check --strict dist/*.whl dist/*.tar.gz

# Another environment with the newest release of everything that pyproject.toml allows, torch included.
CANARY := .venv-canary
canary:               ## test the adapters against the newest releases and say what changed since the lock
	rm -rf $(CANARY)
	$(PYTHON) -m venv $(CANARY)
	$(CANARY)/bin/python $(INSTALL) --upgrade --upgrade-strategy eager -e '.[dev,nnterp]' $(CANARY_ARGS)
	$(CANARY)/bin/python tools/canary.py $(LOCK) $(ARGS)

clean:                ## remove the environment and caches of tools
	rm -rf $(VENV) $(CANARY) $(TOOLS) $(DOCS) .site build .pytest_cache .mypy_cache .ruff_cache *.egg-info
