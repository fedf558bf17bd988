#!/usr/bin/env bash
# Trains for a limited time on a machine without network, from the root of this repository:
#
#     tools/dev/train_on_gpu.sh PACKED OUT WALL_SECONDS [options of dotsctl.tools.dev.train]
#
# PACKED is what dotsctl.tools.dev.pack_training wrote. OUT gets run/state, run/tokenizer.json and run/log.jsonl: eight files
# of at most 16 MiB, from which the next call or a training at home resumes. Needs Python 3.11 or newer with torch, numpy,
# pillow, tokenizers, safetensors, click and matplotlib.
set -euo pipefail

packed=$(realpath "$1") out=$2 wall_seconds=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
start=()
if [ -e "$packed/run" ]; then
    cp -r "$packed/run" "$work/run"
else # a new training, from the weights of a model
    mkdir "$work/run"
    start=(--start "$packed/start")
fi
mkdir -p ~/.fonts
cp "$packed"/fonts/*.ttf ~/.fonts/ 2>/dev/null || true # no fonts: all families are matplotlib's

sets=()
for file in "$packed"/sets/*.zip; do
    [ -e "$file" ] && sets+=(--sets "$file")
done
export PYTHONPATH="$PWD/tools/import_root:$packed/site" PYTHONUNBUFFERED=1
"${PYTHON:-python3}" -P -m dotsctl.tools.dev.train --wall-seconds "$wall_seconds" "${start[@]}" "${sets[@]}" "$@" "$work/run"

mkdir -p "$out/run/state"
cp "$work"/run/state/* "$out/run/state/"
cp "$work/run/tokenizer.json" "$out/run/"
if [ -e "$work/run/log.jsonl" ]; then # a call of fewer steps than a line of the log has none
    cp "$work/run/log.jsonl" "$out/run/"
fi
