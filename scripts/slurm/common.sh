# What every job begins with; sourced by the scripts beside it.
#
# From the environment of who submits (sbatch hands it on; SBATCH_ACCOUNT, SBATCH_PARTITION and
# SBATCH_TIMELIMIT are sbatch's own):
#   RUN         the folder of the run                        [$SCRATCH/arena-judge, or ./run]
#   BATTLES     labelled battles to learn from               [train.parquet]
#   HELD_OUT    labelled battles to measure on               [test.csv]
#   BASE        the model that begins                        [microsoft/Phi-3-mini-4k-instruct]
#   NAME        what a teacher is called                     [teacher]
#   FOLDS       how many folds; arrays have as many tasks    [5]
#   SHARDS      how many shards of logits                    [5]
#   TRAIN       more options of teach and distill, as words
#   MIX         more options of distill, as words
#   VENV        a virtual environment with arena-judge       [none: arena-judge is on the path]
set -eu
RUN=${RUN:-${SCRATCH:+$SCRATCH/arena-judge}}
RUN=${RUN:-run}
BATTLES=${BATTLES:-train.parquet}
HELD_OUT=${HELD_OUT:-test.csv}
BASE=${BASE:-microsoft/Phi-3-mini-4k-instruct}
NAME=${NAME:-teacher}
FOLDS=${FOLDS:-5}
SHARDS=${SHARDS:-5}
TRAIN=${TRAIN:-}
MIX=${MIX:-}
# Models are fetched once for all nodes, where there is room for them.
if [ -n "${SCRATCH:-}" ]; then export HF_HOME="${HF_HOME:-$SCRATCH/huggingface}"; fi
if [ -n "${VENV:-}" ]; then . "$VENV/bin/activate"; fi
mkdir -p "$RUN/first" "$RUN/teachers" "$RUN/shards" "$RUN/logits"
