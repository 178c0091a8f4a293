#!/usr/bin/env bash
# On a bare machine with an NVIDIA GPU, torch and this checkout: the tests that wait for a GPU, then `benchmarks.gpu`.
# Under eight minutes in all.
#
#   benchmarks/gpu.sh [--dry-run]
#
# What is missing beside torch is installed from the wheels in $WHEELS (by default wheels/), without an index, into an
# environment of its own. To collect them elsewhere: pip download -d wheels -c constraints.txt '.[test]', and leave out
# torch's and NVIDIA's. The tables are kept in $KEEP (by default outputs/gpu). --dry-run does the same on a CPU, where
# the tests are skipped and the sizes are tiny.
#
# With SHAKESPEARE=FILE, a copy of tiny Shakespeare, three seeds of experiment=shakespeare_best follow, whole commands:
# four minutes more.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${KEEP:-outputs/gpu}
python=${PYTHON:-python3}
mkdir -p "$folder"

if ! "$python" -c 'import hydra, pytest, pytorch_lightning' 2> /dev/null; then
    "$python" -m venv --system-site-packages "$folder/venv"
    python=$folder/venv/bin/python
    "$python" -m pip install --quiet --no-index --no-deps "${WHEELS:-wheels}"/*.whl || exit 1
fi

started=$SECONDS
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2> /dev/null
timeout 150 "$python" -m pytest -q -m gpu -p no:cacheprovider 2>&1 | tail -n 40
tested=${PIPESTATUS[0]}
left=$((450 - SECONDS + started))
timeout "$left" "$python" -m benchmarks.gpu --keep "$folder" --minutes "$((left / 60 - 1))" "$@" 2> "$folder/errors.txt" \
    | tee "$folder/gpu.md"
measured=${PIPESTATUS[0]}
grep -A 20 Traceback "$folder/errors.txt"
trained=0
if [ -n "${SHAKESPEARE:-}" ]; then
    smaller=()
    [ "${1:-}" = --dry-run ] && smaller=(model.hidden_size=8 trainer.max_epochs=1 trainer.limit_train_batches=2)
    text=(experiment=shakespeare_best "data.path=$(realpath "$SHAKESPEARE")")
    for seed in 0 1 2; do
        run=$(realpath "$folder")/shakespeare_$seed begun=$SECONDS
        "$python" train.py "${text[@]}" seed=$seed "hydra.run.dir=$run" "${smaller[@]}" > "$folder/shakespeare_$seed.txt" \
            && echo "seed $seed: the whole command took $((SECONDS - begun)) seconds" \
            && grep '"valid/loss"' "$run/result.json" \
            && "$python" train.py task=evaluate "ckpt=$run" data.layout=windows data.bptt=256 data.jitter=false \
            || trained=1
    done
fi
[ "$tested" -eq 0 ] && [ "$measured" -eq 0 ] && [ "$trained" -eq 0 ]
