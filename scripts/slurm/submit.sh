#!/bin/sh
# Submits all steps, each after those that it takes from: sh scripts/slurm/submit.sh
# Options for every job in SBATCH (such as SBATCH='--gres=gpu:a100:1'); see common.sh for the rest.
# Prints the number of each job.
here=$(cd "$(dirname "$0")" && pwd)
. "$here/common.sh"
export SCRIPTS="$here" RUN BATTLES HELD_OUT BASE NAME FOLDS SHARDS TRAIN MIX

# job STEP AFTER [OPTIONS]: submits a step after other jobs, numbers with colons between.
job() {
    step=$1 after=$2
    shift 2
    # shellcheck disable=SC2086
    number=$(sbatch --parsable ${after:+--dependency=afterok:$after --kill-on-invalid-dep=yes} \
        ${SBATCH:-} "$@" "$here/$step.sbatch")
    number=${number%%;*}
    echo "$step $number" >&2
    echo "$number"
}

folds=$(job folds '')
teach=$(job teach "$folds" --array="0-$((FOLDS - 1))")
shards=$(job logits "$teach" --array="0-$((SHARDS - 1))")
logits=$(job merge-logits "$shards")
calibrated=$(job calibrate-logits "$logits")
job prune "$calibrated" >/dev/null
students=$(job distill "$calibrated" --array="0-$((FOLDS - 1))")
together=$(job ensemble "$students")
averaged=$(job average "$students")
quantized=$(job quantize "$averaged")
job evaluate "$quantized:$together" >/dev/null
