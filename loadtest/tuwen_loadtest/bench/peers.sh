#!/usr/bin/env bash
# Installs the other software that `make bench` measures. Its environment also sees the project's torch and transformers.
set -euo pipefail
cd "$(dirname "$0")/../../.."
[ -f .venv-bench/.complete ] && exit 0
.venv/bin/python -m venv .venv-bench
.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	> "$(.venv-bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
.venv-bench/bin/python -m pip install --quiet -c constraints.txt litserve==0.2.19 sentence-transformers==6.2.0
touch .venv-bench/.complete
