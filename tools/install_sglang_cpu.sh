#!/usr/bin/env bash
# Builds the environment in which a real SGLang server runs on a machine WITHOUT a GPU: slow, for tests only.
#   tools/install_sglang_cpu.sh DIR [RELEASE]     RELEASE: 0.5.23 (the default, Python 3.11 or newer) or 0.5.9
# 8 or 9.4 GB of disk, Debian on x86-64; use DIR/bin/sglang-python. With a GPU install tools/sglang-0.5.23.lock in an
# environment of its own instead (docs/sglang.md).
#
# The kernels are published as a CUDA build only. It loads on a CPU machine once libcuda.so.1 can be found; Debian's
# libcuda1 (non-free, 3 MB) brings one that finds no device. It is unpacked into DIR, not installed.
set -euo pipefail
dir=${1:?"usage: install_sglang_cpu.sh DIR [RELEASE]"}
release=${2:-0.5.23}
case $release in
    0.5.9) kernels=sgl-kernel==0.3.21 ;;
    0.5.23) kernels=sglang-kernel==0.4.10 ;;
    *) echo "install_sglang_cpu.sh: no release $release here; there are 0.5.23 and 0.5.9" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
stamp="$dir/.complete-$(sha256sum "$here/sglang-cpu-$release.txt" "$here/install_sglang_cpu.sh" | sha256sum | cut -c1-16)"
[ -e "$stamp" ] && exit 0

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
[ -x "$dir/bin/python" ] || "${PYTHON:-python3}" -m venv "$dir"
"$dir/bin/pip" install --quiet --disable-pip-version-check -r "$here/sglang-cpu-$release.txt"
"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps "sglang==$release" "$kernels"

if ! ldconfig -p | grep -q libcuda.so.1; then
    rm -rf "$dir/apt" "$dir/libcuda"
    mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial" "$dir/libcuda"
    . /etc/os-release
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m1 '/debian/*$') ||
        { echo "install_sglang_cpu.sh: apt knows no Debian mirror to take libcuda1 from; put libcuda.so.1 on the library path" >&2; exit 1; }
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] $mirror $VERSION_CODENAME non-free" >"$dir/apt/sources.list"
    apt=(-o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$dir/apt/lists"
        -o "Dir::Cache::archives=$dir/apt/archives")
    apt-get "${apt[@]}" -qq update
    (cd "$dir/apt" && apt-get "${apt[@]}" -qq download libcuda1)
    dpkg -x "$dir"/apt/libcuda1_*.deb "$dir/libcuda"
    rm -rf "$dir/apt"
fi

# What the recipe names as engine.python: the environment's interpreter, with the driver library where it is found.
cat >"$dir/bin/sglang-python" <<'WRAPPER'
#!/bin/sh
bin=$(cd "$(dirname "$0")" && pwd)
driver="$bin/../libcuda/usr/lib/x86_64-linux-gnu/nvidia/current"
[ -d "$driver" ] && export LD_LIBRARY_PATH="$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$bin/python" "$@"
WRAPPER
chmod +x "$dir/bin/sglang-python"
"$dir/bin/sglang-python" -c "import sgl_kernel"  # the part that fails without a driver library
touch "$stamp"
