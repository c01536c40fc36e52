#!/usr/bin/env bash
# Check and measure what runs on a CUDA device, in a few minutes: the tests marked gpu, a training
# in a process group and its continuation, and benchmarks/gpu.py. It needs the checkout and a Python
# with a CUDA build of torch and the packages that llve-common depends on; PYTHON names it.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
PYTHONPATH=$(printf '%s:' packages/*/src)${PYTHONPATH:-}
export PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# Only the files with such tests, for others need more packages.
{ grep -rlZ --include='test_*.py' mark.gpu packages; printf '%s\0' packages/*/tests/test_conformance.py; } |
  xargs -0 "$python" -m pytest -q -m gpu || failed=1

# A group of one process, by nccl.
"$python" -m llve_common data synthetic "$work/synthetic" --png || failed=1
together=("$python" -m torch.distributed.run --standalone --nproc_per_node 1 -m llve_sci train)
"${together[@]}" --config train/synthetic --epochs 1 --save "$work" --name nccl \
  data.train="$work/synthetic/indoor_png/input" run.tensorboard=off || failed=1
"${together[@]}" --resume "$work"/*nccl* train.epochs=2 || failed=1

"$python" benchmarks/gpu.py "$@" || failed=1
exit $failed
