#!/bin/bash
# A folder of micrographs on a Slurm cluster, shared out over the jobs of an array:
#   sbatch --array=0-7 examples/slurm_array.sh /data/tiles /data/enhanced brightfield-x2.5
# Send the same line again after a failure: what is there already is skipped.
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=04:00:00
set -euo pipefail
images=$1 out=$2 model=${3:-brightfield-x2.5}
mkdir -p "$out"
number=0
failed=0
for image in "$images"/*.tif; do
    mine=$((number++ % ${SLURM_ARRAY_TASK_COUNT:-1}))
    result=$out/$(basename "$image")
    if [ "$mine" -ne "${SLURM_ARRAY_TASK_ID:-0}" ] || [ -e "$result" ]; then continue; fi
    # One bad file does not stop the others; results are written whole or not at all.
    python -m dlm_fiji predict "$image" "$result" --model "$model" --threads "${SLURM_CPUS_PER_TASK:-2}" --quiet || failed=1
done
exit $failed
