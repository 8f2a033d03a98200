#!/bin/sh
# The embedded server's program `tritonserver` in the image for CPUs. The arguments are tritonserver's own.
exec python -m tuwen_server.tritonserver "$@"
