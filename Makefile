# Commands for people and for CI. `make` lists them.
.DEFAULT_GOAL := help
.PHONY: help install run demo test test-vm lint format screenshots fuzz bench constraints clean

VENV := .venv/bin

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null || \
	 sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST)

install: ## Install what is missing: Debian packages (sudo), .venv with kitepy and kitepy-engine
	@packaging/install.sh

run: ## Open the app; without a display play the demo and leave demo.png
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
	    packaging/install.sh && exec $(VENV)/kitepy; \
	 else \
	    packaging/install.sh demo && exec $(VENV)/kitepy demo --screenshot demo.png; \
	 fi

demo: ## Play the whole story on a virtual display and leave demo.png
	@packaging/install.sh demo && exec $(VENV)/kitepy demo --screenshot demo.png

test: ## Lint, types, layers, then every test (root ones through sudo)
	@packaging/install.sh test && exec packaging/test.sh $(ARGS)

test-vm: ## Tests of cgroup v2, systemd and an ordinary user's limits in a virtual machine
	@packaging/install.sh vm && exec $(VENV)/python tests/vm/run.py $(ARGS)

lint: ## Lint, types and layers only
	@packaging/install.sh test && exec packaging/test.sh --lint-only

format: ## Rewrite the sources in the agreed format
	@packaging/install.sh test && $(VENV)/ruff format kitepy tests && $(VENV)/ruff check --fix kitepy tests

screenshots: ## Pictures of every screen, light and dark, in screenshots/
	@packaging/install.sh test && exec $(VENV)/python tests/support/screenshots.py

fuzz: ## Hostile archives against what reads them, as root also what unpacks them: ARGS="--seconds 600"
	@packaging/install.sh test && PYTHONPATH=.:tests exec $(VENV)/python -m fuzz.run $(ARGS)

bench: ## Time what users wait for, beside other engines: ARGS="--socket /run/docker.sock"
	@packaging/install.sh test && exec $(VENV)/python tests/bench/api_speed.py $(ARGS)

constraints: ## Renew constraints.txt from .venv
	@{ sed -n '1p' constraints.txt; $(VENV)/python -m pip freeze --exclude-editable; } >constraints.new && mv constraints.new constraints.txt

clean: ## Remove what was built; containers, images and volumes stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist screenshots demo.png *.egg-info
