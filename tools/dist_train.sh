#!/usr/bin/env bash
# Copyright (c) OpenMMLab. All rights reserved.
# As MMPose's script of this name, with the hook:
#   tools/dist_train.sh CONFIG GPUS [OPTION ...]
# PRESET is that of the hook, PYTHON what to train with. On several nodes, run
# it on each of them with NNODES, NODE_RANK and MASTER_ADDR.
set -e

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [OPTION ...]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --nproc_per_node="$GPUS" \
    --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch \
    --enhanced-tensorboard "${PRESET:-balanced}" "${@:3}"
