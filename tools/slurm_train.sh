#!/usr/bin/env bash
# Copyright (c) OpenMMLab. All rights reserved.
# As MMPose's script of this name, with the hook:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [OPTION ...]
# PRESET is that of the hook, PYTHON what to train with; GPUS, GPUS_PER_NODE,
# CPUS_PER_TASK and SRUN_ARGS are as in MMPose's.
set -e

if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WORK_DIR [OPTION ...]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
WORK_DIR=$4
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}

# SRUN_ARGS may be several options.
# shellcheck disable=SC2086
exec srun --partition="$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres=gpu:"$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$CONFIG" \
    --work-dir="$WORK_DIR" --launcher=slurm \
    --enhanced-tensorboard "${PRESET:-balanced}" "${@:5}"
