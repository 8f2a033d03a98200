#!/usr/bin/env bash
# Packs and runs the GPU check for a machine without internet. Its Python needs PyTorch with CUDA, and transformers.
#
# usage: carry.sh pack [VERSION]    collect the other packages in .gpu-check, for the machine's version of Python (default: 3.12)
#        carry.sh run [OPTIONS]     run the check with the packages in .gpu-check; without this folder, with .venv
#
# The variable PYTHON names the interpreter of the machine with the GPU (default: python3).
set -euo pipefail

FOLDER=.gpu-check
LIMIT_MIB=64
# The dependencies of PyTorch, transformers and matplotlib are not packed. The machine has the versions that fit them.
WHEELS=(ftfy wcwidth tritonclient grpcio protobuf python-rapidjson typer click shellingham rich markdown-it-py mdurl
	pygments psutil)

pack() {
	local version=${1:-3.12} pip=(.venv/bin/python -m pip) target
	local tag=cp${version/./}
	target=(--python-version "$version" --implementation cp --abi "$tag" --only-binary=:all: --no-deps --quiet)
	rm -rf "$FOLDER" && mkdir -p "$FOLDER"
	"${pip[@]}" wheel --quiet --no-deps --wheel-dir "$FOLDER" .
	"${pip[@]}" download "${target[@]}" --abi abi3 --abi none -c constraints.txt --dest "$FOLDER" "${WHEELS[@]}"
	local server=$FOLDER/server/2.51-$tag pin
	for pin in wheel=nvidia-pytriton packages=numpy; do
		grep -A9 "^${pin#*=}==" build/tuwen_server/packages.txt | awk 'NR == 1 || /^    --hash/ {print; next} {exit}' \
			>"$FOLDER/pin.txt"
		"${pip[@]}" install "${target[@]}" --abi none --require-hashes --requirement "$FOLDER/pin.txt" --target "$server/${pin%=*}"
	done
	find "$server" -name tests -prune -exec rm -rf {} +
	rm "$FOLDER/pin.txt"
	tar -C "$FOLDER" -cJf "$FOLDER/server.tar.xz" server
	rm -rf "$FOLDER/server"
	local size
	size=$(du -sm "$FOLDER" | cut -f1)
	du -sh "$FOLDER"
	[ "$size" -le "$LIMIT_MIB" ] || { echo "$FOLDER takes $size MiB, more than $LIMIT_MIB" >&2 && exit 1; }
}

run() {
	if [ ! -d "$FOLDER" ]; then
		exec .venv/bin/python -m tuwen_loadtest.gpu_check "$@"
	fi
	local python=${PYTHON:-python3} site=.cache/gpu-check/site
	mkdir -p .cache/gpu-check
	"$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$site" "$FOLDER"/*.whl
	tar -C .cache/gpu-check -xJf "$FOLDER/server.tar.xz"
	PYTHONPATH=$PWD/$site TUWEN_SERVER_FOLDER=$PWD/.cache/gpu-check/server \
		exec "$python" -m tuwen_loadtest.gpu_check "$@"
}

case ${1:-} in
pack | run) "$@" ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
