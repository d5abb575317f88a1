# From a bare clone to a trained model: make demo

# The Python for .venv, as in make demo PYTHON=python3.10. Without it, that of
# .venv, or the first of 3.11, 3.10, 3.9, 3.8 and 3.12 that is there; uv
# downloads one where none is.
PYTHON ?=
# What the script that makes .venv runs with: any Python from 3.8 on.
PYTHONS := .venv/bin/python python3 python python3.11 python3.12 python3.10 \
	python3.9 python3.8
UV = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/enhanced-tensorboard/uv-$(shell \
	sed -n "s/^UV = '\(.*\)'/\1/p" tools/setup_env.py)/bin/uv
CONFIG := configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py
WORK_DIR := work_dirs/demo
DATA := data/synthetic_coco
BENCHMARK := .venv-benchmark
TRACKERS := .venv-trackers
PAGE := docs/en/benchmarks.md
DOCS := docs

# Another MMPose on it would be taken for the one in .venv.
unexport PYTHONPATH PYTHONHOME

.PHONY: help demo data test test-latest test-trackers verify-configs docs \
	html tensorboard benchmark setup setup-latest pins clean

help:
	@echo 'make demo         set up, draw a data set, train on it'
	@echo 'make tensorboard  show the runs in $(dir $(WORK_DIR)) on localhost'
	@echo 'make test         set up, run the tests and the linters'
	@echo 'make test-latest  test the hook on a recent PyTorch, in .venv-latest'
	@echo 'make test-trackers  count what reaches six experiment trackers, offline'
	@echo 'make verify-configs  try the hook on a config of each family in MMPose'
	@echo 'make benchmark    measure the hook beside others: half an hour'
	@echo 'make docs         set up, build the documentation into docs/_build'
	@echo 'make clean        remove .venv*, $(DATA), $(WORK_DIR) and docs/_build'
	@echo
	@echo 'make pins         bring requirements/lock*.txt up to date'
	@echo
	@echo 'All but clean make .venv, or .venv-latest, when it is not there or old.'
	@echo 'PYTHON=python3.10 chooses the interpreter for it (3.8 to 3.12).'

demo: data
	.venv/bin/python tools/train.py $(CONFIG) --work-dir $(WORK_DIR)
	@echo
	@echo 'The run is in $(WORK_DIR). To see it in TensorBoard: make tensorboard'

data: setup
	.venv/bin/python tools/dataset_generators/synthetic_coco.py --out $(DATA)

# One process for each core: most of a test runs on one. The tests of a file
# share what they set up.
PYTEST = OMP_NUM_THREADS=1 $(1)/bin/python -m pytest --numprocesses logical \
	--maxprocesses 4 --dist loadfile

test: setup
	$(call PYTEST,.venv)

# mmengine's checkpoints hold more than weights, which torch.load has refused
# since 2.6 if it is not told to trust them.
test-latest: setup-latest
	TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 $(call PYTEST,.venv-latest) \
		tests/test_engine

# In an environment of its own, which takes torch and the rest from .venv.
test-trackers: setup
	.venv/bin/python -m venv --clear $(TRACKERS)
	.venv/bin/python $(WHERE) > "$$($(TRACKERS)/bin/python $(WHERE))/venv.pth"
	$(TRACKERS)/bin/python -m pip install --quiet -r requirements/trackers.txt
	OMP_NUM_THREADS=1 $(TRACKERS)/bin/python -m pytest \
		tests/trackers/check_trackers.py

# Some configs augment with albumentations; ViTPose is from mmpretrain.
verify-configs: setup
	.venv/bin/python -m pip install -r requirements/verify.txt \
		-c requirements/lock.txt
	.venv/bin/python tools/verify_configs.py

# The tools for it are not in requirements that a training or a test needs.
docs: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements/docs.txt -c requirements/lock.txt
	@$(MAKE) --no-print-directory html

# Each language by itself; a warning is an error. Sphinx names its own words
# after a locale.
html:
	@for language in $(patsubst $(DOCS)/%/index.md,%,$(wildcard \
			$(DOCS)/*/index.md)); do \
		.venv/bin/python -m sphinx -W --keep-going -q -b html -c $(DOCS) \
			-D language="$$(echo $$language | sed s/_cn/_CN/)" \
			-d $(DOCS)/_build/doctrees/$$language \
			$(DOCS)/$$language $(DOCS)/_build/$$language || exit; \
		echo "==> $(DOCS)/_build/$$language/index.html"; \
	done

tensorboard: setup
	.venv/bin/python -m tensorboard.main --logdir $(dir $(WORK_DIR))

benchmark: $(BENCHMARK)/installed
	@mkdir -p work_dirs
	$(BENCHMARK)/bin/python -W ignore tools/benchmark_hook.py \
		--markdown $(PAGE) --json work_dirs/benchmark.json

# An environment of its own for what the hook is measured against; it takes
# torch and the rest from .venv. What cannot be installed is shown as missing,
# and tried again the next time.
WHERE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
$(BENCHMARK)/installed: requirements/benchmark.txt .venv/setup_stamp
	.venv/bin/python -m venv --clear $(BENCHMARK)
	.venv/bin/python $(WHERE) \
		> "$$($(BENCHMARK)/bin/python $(WHERE))/venv.pth"
	if $(BENCHMARK)/bin/python -m pip install --no-deps -r $<; then \
		touch $@; \
	fi

# Only if setup has changed it, anything is to be made anew.
.venv/setup_stamp: setup ;

# Some names are there and do not run, such as pyenv's.
setup setup-latest:
	@for python in $(PYTHONS); do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' \
				2>/dev/null; then \
			exec "$$python" tools/setup_env.py \
				$(if $(PYTHON),--python '$(PYTHON)') \
				$(if $(filter %-latest,$@),--latest); \
		fi; \
	done; \
	echo "setup: none of these is a Python 3.8 or later:" $(PYTHONS) >&2; \
	exit 1

# The complete sets of versions, for every Python and system, from the files
# that name what is wanted. What fits is kept; rm requirements/lock*.txt before
# it brings all up to date.
COMPILE = cd requirements && $(UV) pip compile --universal --quiet \
	--no-annotate --custom-compile-command 'make pins' build.txt runtime.txt \
	tests.txt
pins: setup
	$(COMPILE) torch.txt docs.txt verify.txt --python-version 3.8 -o lock.txt
	$(COMPILE) torch-latest.txt --python-version 3.10 -o lock-latest.txt

clean:
	rm -rf .venv .venv-latest $(BENCHMARK) $(TRACKERS) $(DATA) $(WORK_DIR) docs/_build
