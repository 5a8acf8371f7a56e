#!/usr/bin/env bash
# Builds the environment in which `train.backend: unsloth` runs.   tools/install_unsloth.sh DIR   (3 GB, two minutes)
# Without a GPU Unsloth falls back to transformers' own layers: enough to test the way there, useless for anything else.
set -euo pipefail
dir=${1:?"usage: install_unsloth.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
stamp="$dir/.complete-$(sha256sum "$here/unsloth.txt" "$here/install_unsloth.sh" | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0

[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
pip=("$dir/bin/pip" install --quiet --disable-pip-version-check)
"${pip[@]}" "torch>=2.11,<2.14"
"$dir/bin/pip" freeze | grep -E '^torch==' >"$dir/torch.txt" # the rest must not bring another one
"${pip[@]}" -c "$dir/torch.txt" -r "$here/unsloth.txt"
"${pip[@]}" --no-deps unsloth==2026.10.9 unsloth_zoo==2026.10.9
touch "$stamp"
