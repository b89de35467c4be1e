#!/bin/bash
# One run over several machines: torchrun on each, which meet at the first. The run's config says the layout, for
# example, with eight GPUs a node and four nodes,
#
#   [parallel]
#   replicate = 4     # copies: one a node, whose gradients are added up over the network (HSDP)
#   shard = 8         # weights, gradients and optimiser split over a node's GPUs (FSDP)
#
# Submit with: sbatch recipes/slurm.sh runs/mine --config mine.toml   (later: sbatch recipes/slurm.sh runs/mine)
# The run's directory must be on a file system that all nodes share. Pre-empted or out of time, Slurm sends SIGTERM: a
# checkpoint is written and the job queued again, to go on. Not run on a cluster yet.
#SBATCH --job-name=isoflop
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@300
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=1

# Exit status 75: stopped from outside after saving. srun gives torchrun's own, which is 1 whenever a rank's is not 0.
srun torchrun \
    --nnodes="$SLURM_NNODES" \
    --nproc-per-node="${SLURM_GPUS_ON_NODE:-8}" \
    --rdzv-id="$SLURM_JOB_ID" \
    --rdzv-backend=c10d \
    --rdzv-endpoint="$first:${PORT:-29500}" \
    --max-restarts=3 \
    -m isoflop train "$@"

if [ ! -f "$1/summary.json" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
