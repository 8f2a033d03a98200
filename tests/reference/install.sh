#!/usr/bin/env bash
# cn-clip and its torchvision, in a folder of their own: installed beside the project they would change how
# transformers resizes images.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ -d .venv-reference/cn_clip ] && exit 0
.venv/bin/python -m pip install --quiet --no-deps --target .venv-reference cn-clip==1.6.0 torchvision==0.28.0 six
