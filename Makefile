# From a bare clone to a trained model: make demo

# The interpreter to make .venv with. Python 3.12 comes late in the search,
# since mmcv has to be built from source for it.
PYTHON ?=
PYTHONS := .venv/bin/python python3.11 python3.10 python3.9 python3.8 \
	python3.12 python3 python
CONFIG := configs/enhanced_tensorboard/td-hm_res18_1xb8-12e_synthetic-128x96.py
WORK_DIR := work_dirs/demo
DATA := data/synthetic_coco
BENCHMARK := .venv-benchmark
TRACKERS := .venv-trackers
PAGE := docs/en/benchmarks.md

# Another MMPose on it would be taken for the one in .venv.
unexport PYTHONPATH PYTHONHOME

CANDIDATES := $(if $(PYTHON),'$(PYTHON)',$(PYTHONS))
SUITABLE := import sys; sys.exit(not (3, 8) <= sys.version_info[:2] <= (3, 12))
COMPLETE := import venv, ensurepip; $(SUITABLE)

.PHONY: help demo data test test-latest test-trackers verify-configs docs \
	tensorboard benchmark setup setup-latest clean

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
	@echo 'All but the last make .venv, or .venv-latest, when it is not there or old.'
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

# Some configs augment with albumentations.
verify-configs: setup
	.venv/bin/python -m pip install -r requirements/verify.txt -c \
		requirements/build.txt -c requirements/runtime.txt
	.venv/bin/python tools/verify_configs.py

# The tools for it are not in requirements that a training or a test needs.
docs: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-r requirements/docs.txt -c requirements/runtime.txt \
		-c requirements/tests.txt
	.venv/bin/python tools/build_docs.py

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

# Some names are there and do not run, such as pyenv's, and some Pythons come
# without venv: the first that has everything is taken. If there is none, one
# without venv is, so that setup_env.py can say what to install.
setup setup-latest:
	@for check in '$(COMPLETE)' '$(SUITABLE)'; do \
		for python in $(CANDIDATES); do \
			if "$$python" -c "$$check" 2>/dev/null; then \
				exec "$$python" tools/setup_env.py \
					$(if $(filter %-latest,$@),--latest); \
			fi; \
		done; \
	done; \
	echo "setup: none of these is a Python 3.8 to 3.12:" $(CANDIDATES) \
		"(choose one, as in make demo PYTHON=/path/to/python3.10)" >&2; \
	exit 1

clean:
	rm -rf .venv .venv-latest $(BENCHMARK) $(TRACKERS) $(DATA) $(WORK_DIR) docs/_build
