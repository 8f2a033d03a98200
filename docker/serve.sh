#!/bin/sh
# Start tritonserver so that only the holder of a key may load models, register shared memory, or change tracing and
# logging. TUWEN_SERVER_KEY is the key. Without this variable the key is random, and nobody has these rights. The
# arguments are those of tritonserver.
set -eu
key=${TUWEN_SERVER_KEY:-$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')}
case $key in
*[!A-Za-z0-9_.-]*) valid=no ;;
????????????????*) valid=yes ;;
*) valid=no ;;
esac
if [ "$valid" = no ]; then
    echo "TUWEN_SERVER_KEY must have at least 16 letters, digits, '-', '_' or '.'" >&2
    exit 2
fi
unset TUWEN_SERVER_KEY # the Python models need no key
restricted="model-repository,shared-memory,trace,logging:tuwen=$key"
exec tritonserver "--grpc-restricted-protocol=$restricted" "--http-restricted-api=$restricted" "$@"
