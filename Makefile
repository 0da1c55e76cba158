# `make demo` and `make test` need python3 (3.11 or later), git and make; all else goes into .venv,
# from the hash-pinned locks in packaging/.

# Debian's own first: the package runs on it, and it is built with optimizations that others leave
# out, which makes it half as fast again.
ifndef PYTHON
PYTHON := $(shell for p in /usr/bin/python3 python3.11 python3.12 python3.13 python3; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$p; break; fi; done)
endif
VENV := .venv
BIN := $(VENV)/bin
LOCK := packaging/requirements
PIP := $(BIN)/python -I -m pip install --quiet --disable-pip-version-check --no-user
PIP_COMPILE := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras \
	--no-config --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --pip-args=--isolated

.PHONY: help demo test check fix simulate bench bench-growth deb test-system lock clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    three nodes on this machine: write, read, kill the leader, look again'
	@echo 'make test    all checks and all tests'
	@echo 'make check   format, lint, types, architecture; changes nothing'
	@echo 'make fix     format, and mend what can be mended by itself'
	@echo 'make simulate SEEDS=10000, or SEED=7 for one with its trace, or MUTATIONS=1'
	@echo 'make bench   raftd and etcd in turns, with ratios; QUICK=1 for a minute, ONLY=put-100,get-100'
	@echo 'make bench-growth   how cost grows with keys, sizes, connections, nodes, uptime; FULL=1'
	@echo 'make deb     the Debian package, in dist/'
	@echo 'make test-system   that package in booted Debian systems (as root)'
	@echo 'make lock    pin the newest dependencies (network)'
	@echo 'make clean   remove .venv and everything else that was generated'

demo: $(VENV)/raftd.stamp
	@$(BIN)/python packaging/demo.py

test: check
	$(BIN)/python -m pytest
	@echo 'All checks and tests have passed.'

check: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

SEEDS ?= 1000
simulate: $(VENV)/dev.stamp
	$(BIN)/python -m tests.simulation $(if $(SEED),$(SEED) $(if $(STATE_TRACE),--state-trace $(STATE_TRACE)), \
		$(if $(MUTATIONS),--mutations,--seeds $(SEEDS)))

# $(call option,NAME,name): --name VALUE, if NAME is set
option = $(if $($(1)),--$(2) $($(1)))
bench: $(VENV)/bench.stamp
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(call option,ONLY,only) \
		$(call option,ROUNDS,rounds) $(call option,SECONDS,seconds) $(call option,LIMIT,limit) \
		$(call option,ENTRIES,entries) $(call option,AGAINST,against) $(call option,DIRECTORY,directory)

bench-growth: $(VENV)/raftd.stamp
	$(BIN)/python -m tests.bench.growth $(if $(FULL),--full) $(call option,ONLY,only) \
		$(call option,SECONDS,seconds) $(call option,DIRECTORY,directory)

# The package is built from a copy: nothing but dist/ is left behind, nothing but the copy is built.
# Only packaging/carry.py needs the network. Debian's own Python is meant, not one found in PATH.
deb:
	@command -v dpkg-buildpackage >/dev/null && dpkg-checkbuilddeps || { \
		echo 'To build the package: apt-get install build-essential && apt-get build-dep ./' >&2; \
		exit 1; }
	PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 packaging/carry.py fetch
	rm -rf build/deb
	mkdir -p build/deb/raftd dist
	cp -r LICENSE README.md CHANGELOG.md pyproject.toml debian etc packaging raftctl raftd \
		build/deb/raftd
	find build/deb -name __pycache__ -prune -exec rm -r {} +
	cd build/deb/raftd && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -b -us -uc
	rm -f dist/raftd*
	mv build/deb/raftd*_* dist/
	rm -rf build/deb
	@if command -v lintian >/dev/null; then set -x; lintian --fail-on warning dist/raftd_*.changes; fi
	@ls -l dist/raftd_*.deb

# Debian systems booted with systemd-nspawn, as root; where that cannot be, skipped with the reason.
test-system: deb $(VENV)/dev.stamp
	RAFTD_PACKAGE="$$(ls $(CURDIR)/dist/raftd_*.deb)" $(BIN)/python -m pytest tests/package

# One after the other: a later lock obeys the earlier ones.
lock: $(VENV)/dev.stamp
	$(PIP_COMPILE) -o $(LOCK)-build.txt $(LOCK)-build.in
	$(PIP_COMPILE) -c $(LOCK)-build.txt -o $(LOCK).txt pyproject.toml
	$(PIP_COMPILE) -c $(LOCK)-build.txt -c $(LOCK).txt --extra dev -o $(LOCK)-dev.txt pyproject.toml
	$(PIP_COMPILE) -c $(LOCK)-build.txt -c $(LOCK).txt -c $(LOCK)-dev.txt -o $(LOCK)-bench.txt $(LOCK)-bench.in

clean:
	rm -rf $(VENV) build dist packaging/wheels *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: what a node needs, then raftd itself, then what developers need.
$(VENV)/run.stamp: $(LOCK)-build.txt $(LOCK).txt packaging/bootstrap.py
	@test -n '$(PYTHON)' || { echo 'No Python 3.11 or later here: apt install python3' >&2; exit 1; }
	$(PYTHON) packaging/bootstrap.py $(VENV)
	@touch $@

$(VENV)/raftd.stamp: $(VENV)/run.stamp pyproject.toml raftd/__init__.py
	@# compat: a plain .pth file, which costs no start-up time. The warnings are about that, and about
	@# the form of the licence field that Debian 12's setuptools needs.
	PYTHONWARNINGS=ignore $(PIP) --no-index --no-deps --no-build-isolation \
		--config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/raftd.stamp $(LOCK)-dev.txt
	$(PIP) --require-hashes --only-binary=:all: --no-binary=sdnotify --no-build-isolation \
		-r $(LOCK)-dev.txt
	@touch $@

# The bench goes on without them.
$(VENV)/bench.stamp: $(VENV)/raftd.stamp $(LOCK)-bench.txt
	@PYTHONWARNINGS=ignore $(PIP) --require-hashes --only-binary=:all: --no-binary=pysyncobj --no-build-isolation \
		-r $(LOCK)-bench.txt && touch $@ \
		|| echo 'bench: without a plot and without PySyncObj, which cannot be installed' >&2
