#!/bin/sh
# Run the parity, contract and fault tests on NVIDIA's C++ PyTorch backend, in a copy of the source at /source.
# TUWEN_PYTORCH_BACKEND names the folder of the backend. Arguments go to pytest and replace the default tests.
set -eu
: "${TUWEN_PYTORCH_BACKEND:?names the folder with libtriton_pytorch.so, such as /opt/tritonserver/backends/pytorch}"
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
tar -C "$source" --exclude=./.venv --exclude=./.cache --exclude=./.git -cf - . | tar -C "$work" -xf -
cd "$work"
make install
tests/environments.sh originals
if [ "$#" = 0 ]; then
    set -- tests/contract tests/service/test_parity.py tests/service/test_refusals.py tests/service/test_plain_client.py \
        tests/service/test_failing_requests.py tests/service/test_client_server.py tests/system/test_faults.py
fi
exec .venv/bin/python -m pytest "$@"
