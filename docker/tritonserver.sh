#!/bin/sh
# The program `tritonserver` of the image for CPUs. The arguments are those of tritonserver.
exec python -m tuwen_server.tritonserver "$@"
