#!/usr/bin/env bash
# Copyright (c) OpenMMLab. All rights reserved.
# Test the hook and its parts on the torch that TORCH names, with the running
# Python: for versions that tools/setup_env.py does not install.
set -euo pipefail
cd "$(dirname "$0")/../.."

INDEX=https://download.openmmlab.com/mmcv/dist/cpu
python -m venv .venv-oldest
PATH=$PWD/.venv-oldest/bin:$PATH
pip install -r requirements/build.txt 'setuptools<76'
pip install "torch==$TORCH" torchvision
pip install --no-build-isolation -c requirements/build.txt \
    -r requirements/runtime.txt -r requirements/tests.txt
pip install --no-deps -r requirements/mminstall.txt \
    --find-links "$INDEX/torch${TORCH%.*}.0/index.html"
python tools/link_patch.py
OMP_NUM_THREADS=1 python -m pytest -n auto --dist loadfile tests/test_engine
