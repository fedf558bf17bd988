#!/usr/bin/env bash
# Examines dotsctl on a Mac and packs one file to send back: dotsctl-mac.tar.gz in the current folder.
#
#   tools/first_mac.sh [OPTION...]      the options are those of tools/dev/mac_report.py, as --cpu-only or --skip NAME
#   tools/first_mac.sh --dry-run ...    the same on another system, without what only a Mac can do
#
# It installs into a temporary folder and changes nothing else on the machine. It has never been run on a Mac.
set -euo pipefail

here=$(pwd)
cd "$(dirname "$0")/.."
checkout=$(pwd)

if [ "${1:-}" = --dry-run ]; then
    shift
elif [ "$(uname -s)-$(uname -m)" != Darwin-arm64 ]; then
    echo "first_mac.sh: this is $(uname -s) on $(uname -m), not macOS on Apple silicon: use --dry-run" >&2
    exit 2
fi

# Short, because sockets lie in it: a path of a socket has at most 103 bytes on macOS.
scratch=$(mktemp -d /tmp/dotsctl.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
export XDG_CACHE_HOME="$scratch/cache" XDG_CONFIG_HOME="$scratch/config" XDG_DATA_HOME="$scratch/data"
export XDG_STATE_HOME="$scratch/state" DOTSCTL_RUNTIME_DIR="$scratch/run" PYTHONDONTWRITEBYTECODE=1

echo "installing into $scratch ..."
if command -v uv >/dev/null; then
    uv venv --quiet --python 3.12 "$scratch/venv"
    uv pip install --quiet --python "$scratch/venv/bin/python" -c constraints.txt -e '.[all,test]'
else
    "${PYTHON:-python3}" -m venv "$scratch/venv"
    "$scratch/venv/bin/pip" install -q -c constraints.txt -e '.[all,test]'
fi

# From here on nothing is written to the person's home folder: ~/Library/Logs is what XDG variables do not move.
export HOME="$scratch/home"
mkdir "$HOME"
cd "$checkout"
"$scratch/venv/bin/python" -P -m dotsctl.tools.dev.mac_report --output "$here/dotsctl-mac.tar.gz" "$@"
