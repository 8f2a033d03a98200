#!/usr/bin/env bash
# Prepare .venv in the current folder. `make` runs this script.
#
# usage: build/environment.sh create    create .venv with a Python that can serve, or check an existing .venv
#        build/environment.sh index [PYTHON]    print pip's argument for the index that PyTorch comes from, for the
#                                  environment of PYTHON (default: .venv/bin/python)
#        build/environment.sh server    install a missing embedded server, if this machine can run it
#
# PYTHON names the interpreter, PIP_ARGS holds the arguments of pip, and TORCH_INDEX names another index of PyTorch.
set -euo pipefail

fail() {
	echo "$*" >&2
	exit 1
}

# Print the minor version of a Python 3, whether it can create environments, and whether it can compile extensions.
describe() {
	"$1" -c 'import os, sys, sysconfig
from importlib.util import find_spec
headers = os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h"))
print(sys.version_info[1] if sys.version_info[0] == 3 else 0, all(map(find_spec, ("venv", "ensurepip"))), headers)' 2>/dev/null
}

# Print the first command that starts Python 3.$1 and can create environments.
find_python() {
	local name minor can_create headers
	for name in "python3.$1" python3 python; do
		read -r minor can_create headers < <(describe "$name") || continue
		[ "$minor $can_create" = "$1 True" ] || continue
		[ "$1" -lt 13 ] || [ "$headers" = True ] || continue
		command -v "$name"
		return
	done
	return 1
}

has_compiler() {
	{ command -v cc || command -v gcc || command -v clang; } && { command -v c++ || command -v g++ || command -v clang++; }
}

# Python 3.13 comes after the others, because numpy 1.26 for the embedded server must be compiled there.
choose_python() {
	find_python 12 || find_python 11 || find_python 10 || { has_compiler >/dev/null && find_python 13; }
}

create_with_uv() {
	local uv
	uv=$(command -v uv) || {
		local name minor can_create headers
		for name in python3 python; do
			read -r minor can_create headers < <(describe "$name") && [ "$can_create" = True ] && [ "$minor" -ge 8 ] &&
				"$name" -m venv .cache/uv && .cache/uv/bin/python -m pip install --quiet uv && uv=.cache/uv/bin/uv && break
		done
	}
	[ -n "$uv" ] && echo "no Python 3.10 to 3.12 found: uv fetches Python 3.12" >&2 && "$uv" venv --quiet --seed --python 3.12 .venv
}

create() {
	if [ -e .venv ]; then
		check_existing
		return
	fi
	local python=${PYTHON:-} minor can_create headers
	if [ -n "$python" ]; then
		read -r minor can_create headers < <(describe "$python") || fail "PYTHON=$python does not start"
		{ [ "$minor" -ge 10 ] && [ "$minor" -le 13 ]; } || fail "expected Python 3.10 to 3.13, but PYTHON=$python is Python 3.$minor"
		[ "$can_create" = True ] || fail "PYTHON=$python lacks venv; on Debian and Ubuntu: sudo apt install python3.$minor-venv"
	else
		python=$(choose_python) || python=
	fi
	if [ -n "$python" ]; then
		"$python" -m venv .venv || { rm -rf .venv && fail "$python could not create .venv"; }
	else
		create_with_uv || { rm -rf .venv && fail "no Python 3.10 to 3.12 found; install one with venv (Debian, Ubuntu: sudo apt install python3 python3-venv), or install uv, and run make again"; }
	fi
}

check_existing() {
	local minor can_create headers wanted
	read -r minor can_create headers < <(describe .venv/bin/python) ||
		fail "the Python of .venv does not start any more, perhaps after an upgrade of the system; run: rm -r .venv"
	[ -d ".venv/lib/python3.$minor" ] || fail ".venv was made by another Python than 3.$minor, which it starts now; run: rm -r .venv"
	{ [ "$minor" -ge 10 ] && [ "$minor" -le 13 ]; } || fail "expected Python 3.10 to 3.13, but .venv has Python 3.$minor; run: rm -r .venv"
	if [ -n "${PYTHON:-}" ]; then
		read -r wanted can_create headers < <(describe "$PYTHON") || fail "PYTHON=$PYTHON does not start"
		[ "$wanted" = "$minor" ] || fail ".venv has Python 3.$minor, and PYTHON=$PYTHON is Python 3.$wanted; run: rm -r .venv"
	fi
	# Earlier versions installed the server's wheel here, and that wheel holds numpy below 2.
	if [ -d ".venv/lib/python3.$minor/site-packages/pytriton" ]; then
		.venv/bin/python -m pip uninstall --quiet --yes nvidia-pytriton
	fi
}

index() {
	local python=${1:-.venv/bin/python} url=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
	[ "$(uname -s)" = Linux ] || return 0 # elsewhere PyTorch's wheels carry no CUDA
	[[ ${PIP_ARGS:-} != *index* ]] || return 0
	{ [ ! -e /dev/nvidiactl ] && ! command -v nvidia-smi >/dev/null; } || return 0
	! "$python" -c 'import sys, importlib.util; sys.exit(importlib.util.find_spec("torch") is None)' || return 0
	if timeout 2 "$python" -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1])' "$url/torch/" >/dev/null 2>&1; then
		echo "no NVIDIA card found: PyTorch comes from its CPU index" >&2
		echo "--extra-index-url $url"
	else
		echo "PyTorch's CPU index does not answer: pip chooses PyTorch, which may bring 3 GB of CUDA" >&2
	fi
}

server() {
	if [ "$(uname -s) $(uname -m)" = "Linux x86_64" ]; then
		.venv/bin/tuwen server install --if-missing >/dev/null
	else
		echo "the embedded server runs on Linux x86_64 alone: everything else is installed" >&2
	fi
}

case "${1:-}" in
create | index | server) "$@" ;;
*) fail "usage: build/environment.sh create | index | server" ;;
esac
