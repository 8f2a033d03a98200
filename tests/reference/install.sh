#!/usr/bin/env bash
# The originals (cn-clip, open_clip) and their torchvision, in a folder of their own: installed beside the project they
# would change how transformers resizes images.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -f .venv-reference/.complete ] && exit 0
.venv/bin/python -m pip install --quiet --no-deps --upgrade --target .venv-reference \
	cn-clip==1.6.0 open_clip_torch==3.3.0 torchvision==0.28.0 timm==1.0.20 six
touch .venv-reference/.complete
