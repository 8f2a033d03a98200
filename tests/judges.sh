#!/usr/bin/env bash
# Programs that judge what we deploy and that pip cannot install beside the project: checkov, which asks for old versions,
# a Milvus server, and Debian's Prometheus with promtool. Where there is no apt, the tests that take Prometheus are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -f .venv-checkov/.complete ]; then
	.venv/bin/python -m venv .venv-checkov
	.venv-checkov/bin/python -m pip install --quiet checkov==3.3.30
	touch .venv-checkov/.complete
fi

# A real Milvus server, in one process, of which Milvus Lite is to be the like.
if [ ! -f .venv-milvus/.complete ]; then
	.venv/bin/python -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet milvus==2.3.5 setuptools==80.9.0
	touch .venv-milvus/.complete
fi

folder=.cache/prometheus
if [ ! -x "$folder/usr/bin/promtool" ] && ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
	mkdir -p "$folder"
	cd "$folder"
	apt-get download -q prometheus 2>/dev/null || { apt-get update -q && apt-get download -q prometheus; } ||
		{ echo "no Prometheus to be had: its tests are skipped" >&2 && exit 0; }
	dpkg -x prometheus_*.deb .
	rm prometheus_*.deb
fi
