#!/usr/bin/env bash
# SGLang 0.5.23 for a GPU in an environment of its own: every package as tools/sglang-0.5.23.lock has it, and the CUDA
# compiler that comes with them made usable, since SGLang compiles its rotary kernel at first use.
#   tools/install_sglang.sh [DIR]      DIR: .sglang, where dpr-mini looks for it. PYTHON=python3.12: 3.11 or 3.12
# About 12 GB of disk. Never run on a machine with a GPU so far. Without one: tools/install_sglang_cpu.sh.
set -euo pipefail
dir=${1:-.sglang}
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --disable-pip-version-check -r "$here/sglang-0.5.23.lock"
cuda=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nvidia/cu13
ln -sfn lib "$cuda/lib64"                            # SGLang links its kernels with lib64/libcudart.so
ln -sf libcudart.so.13 "$cuda/lib/libcudart.so"
"$cuda/bin/nvcc" --version
echo "ready: dpr-mini finds it in $dir, and its compiler in $cuda"
