#!/usr/bin/env bash
# Install every extra, alone and then together, in clean environments without constraints, and use each one.
#
# usage: tests/fresh_extras.sh [EXTRA ...]    default: every extra of pyproject.toml, and `all`
#
# This finds a new release of a dependency that breaks an extra, which constraints.txt hides. PIP_ARGS holds arguments
# for every pip install. The environments share pip's cache, and each is removed after its use.
# CLIENT_PYTHON names the Python of the environments (default: the Python of .venv). The server for all of them runs on
# the Python of .venv. If CLIENT_PYTHON cannot run a server, the extra `serve` is left out.
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
server_python=$PWD/.venv/bin/python
client_python=$(command -v "${CLIENT_PYTHON:-$server_python}") || { echo "CLIENT_PYTHON=$CLIENT_PYTHON does not start" >&2 && exit 1; }
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; }; rm -rf "$work"' EXIT
unset PYTHONPATH
export TUWEN_STORE=$work/search.db RAY_USAGE_STATS_ENABLED=0 RAY_DATA_DISABLE_PROGRESS_BARS=1

# Make the environment $1 with the extras $2 (empty: the SDK alone) and the Python $3, and set $bin to its commands.
environment() {
	"$3" -m venv "$work/$1" && bin=$work/$1/bin || return
	# shellcheck disable=SC2046,SC2086 - PIP_ARGS and the index are several arguments
	"$bin/python" -m pip install --quiet ${PIP_ARGS:-} $(build/environment.sh index "$bin/python") "$wheel${2:+[$2]}" || return
	"$bin/python" -m pip check
}

gallery=$root/build/demo/gallery
picture=$(printf '%s\n' "$gallery"/*.png | head -n 1)

use_sdk() { "$bin/tuwen" similarity --image "$picture" --text 太阳 --text 下雨; }
use_build() { "$bin/tuwen" build "$root/build/demo/checkpoint" --output "$work/built" --image-rules display --force; }
use_serve() { # starts a server and embeds a text
	"$bin/tuwen" serve "$work/repository" --grpc-port 18101 --http-port 18100 --metrics-port 18102 &
	local own=$! done=1
	for _ in $(seq 120); do
		"$bin/tuwen" similarity --url 127.0.0.1:18101 --image "$picture" --text 太阳 2>/dev/null && done=0 && break
		kill -0 "$own" 2>/dev/null || break
		sleep 1
	done
	kill "$own"
	wait "$own"
	return "$done"
}
use_tracing() { "$bin/python" -c 'import opentelemetry.trace' && use_sdk; }
use_fetch() {
	"$bin/python" - "$picture" <<-'END'
		import functools, http.server, os, sys, threading
		from tuwen import Client, HttpFetcher
		folder, name = os.path.split(sys.argv[1])
		handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
		server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
		threading.Thread(target=server.serve_forever, daemon=True).start()
		host = f"127.0.0.1:{server.server_port}"
		clip = Client(os.environ["TUWEN_URL"], fetcher=HttpFetcher([host]))
		assert clip.embed_images([f"http://{host}/{name}"]).shape[0] == 1
	END
}
use_heif() {
	"$bin/python" - "$picture" "$work/picture.heic" <<-'END' && "$bin/tuwen" similarity --image "$work/picture.heic" --text 太阳
		import pillow_heif, sys
		from PIL import Image
		pillow_heif.register_heif_opener()
		Image.open(sys.argv[1]).save(sys.argv[2])
	END
}
use_peft() { # builds from an adapter of zeros for the demo's checkpoint
	"$bin/python" - "$root/build/demo/checkpoint" "$work/adapter" <<-'END' &&
		import sys
		import peft, transformers
		model = transformers.ChineseCLIPModel.from_pretrained(sys.argv[1])
		peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query", "q_proj"])).save_pretrained(sys.argv[2])
	END
		"$bin/tuwen" build "$work/adapter" --merge-adapter --output "$work/merged" --image-rules display --force
}
use_parquet() {
	"$bin/tuwen" embed "$gallery" --output "$work/vectors.parquet" &&
		"$bin/python" -c 'import pyarrow.parquet as p, sys; assert p.read_table(sys.argv[1]).num_rows > 9' "$work/vectors.parquet"
}
use_edge() { # gets a vector over HTTP
	"$bin/tuwen" edge "$TUWEN_URL" --port 18103 &
	local own=$! done=1
	for _ in $(seq 30); do
		"$bin/python" - <<-'END' 2>/dev/null && done=0 && break
			import httpx
			answer = httpx.post("http://127.0.0.1:18103/v1/embeddings", json={"input": "太阳"}, timeout=10)
			assert len(answer.raise_for_status().json()["data"]) == 1
		END
		sleep 1
	done
	kill "$own"
	wait "$own"
	return "$done"
}
use_langchain() {
	"$bin/python" -c 'import os; from tuwen_integrations.langchain import TuwenEmbeddings
assert TuwenEmbeddings(os.environ["TUWEN_URL"]).embed_query("太阳")'
}
use_llama-index() {
	"$bin/python" -c 'import os; from tuwen_integrations.llama_index import TuwenEmbedding
assert TuwenEmbedding(url=os.environ["TUWEN_URL"]).get_query_embedding("太阳")'
}
use_haystack() {
	"$bin/python" -c 'import os; from tuwen_integrations.haystack import TuwenTextEmbedder
assert TuwenTextEmbedder(os.environ["TUWEN_URL"]).run("太阳")["embedding"]'
}
use_search() { "$bin/tuwen" index "$gallery" --into gallery && "$bin/tuwen" search gallery 太阳 --limit 3; }
use_web() {
	"$bin/tuwen" index "$gallery" --into gallery || return
	"$bin/tuwen" web gallery --pictures "$gallery" --port 18103 &
	local page=$! done=1
	for _ in $(seq 60); do
		"$bin/python" -c 'import urllib.request as r; r.urlopen("http://127.0.0.1:18103").read()' 2>/dev/null && done=0 && break
		sleep 1
	done
	kill "$page"
	wait "$page"
	return "$done"
}
use_ray() {
	"$bin/python" - "$picture" "$work/rows" <<-'END' && "$bin/python" -m tuwen_files.ray_data "$work/rows" "$work/embedded" --url "$TUWEN_URL"
		import pathlib, pyarrow, pyarrow.parquet, sys
		rows = [{"image": {"bytes": pathlib.Path(sys.argv[1]).read_bytes(), "path": None}}] * 20
		pathlib.Path(sys.argv[2]).mkdir()
		pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sys.argv[2] + "/0.parquet")
	END
}
shapes() { (cd "$root" && "$bin/python" -c 'import pathlib, sys; from tests.support.shapes import write_shapes; write_shapes(pathlib.Path(sys.argv[1]))' "$work/shapes"); }
use_dataset() { command -v npm >/dev/null || { echo "no npm: skipped" && return; } && "$bin/tuwen" dataset emoji "$work/emoji" --cache "$root/.cache/npm"; }
use_evaluate() { shapes && "$bin/tuwen" evaluate retrieval "$work/shapes" --split valid; }
use_train() {
	shapes && "$bin/tuwen" train "$work/shapes" --output "$work/trained" --architecture "$work/shapes/architecture.json" \
		--start-epochs 1 --frozen-epochs 1 --epochs 1 --batch-size 24 --force
}
use_loadtest() { "$bin/tuwen" loadtest "$TUWEN_URL" --rate 5 --seconds 5 --warmup 1 --repetitions 1 --output "$work/report"; }
use_bench() { "$bin/python" -m tuwen_loadtest.bench --help; }
use_docs() {
	command -v npm >/dev/null || { echo "no npm: skipped" && return; }
	make --no-print-directory .cache/docs/mermaid.min.js && "$bin/python" -m docs.staging &&
		NO_MKDOCS_2_WARNING=1 "$bin/mkdocs" build --strict --site-dir "$work/site"
}
use_deploy() { "$bin/python" -c 'import envoy, helm_python, kubernetes_validate'; }
use_test() { "$bin/python" -m pytest -q -p no:cacheprovider "$root/tests/unit/sdk"; }
use_release() { "$bin/twine" check --strict "$wheel" && "$bin/check-wheel-contents" "$wheel" && "$bin/cyclonedx-py" --version; }
use_check() {
	"$bin/check-jsonschema" --builtin-schema vendor.compose-spec "$root/docker/compose.yaml" &&
		"$bin/hadolint" "$root"/docker/*.Dockerfile && "$bin/zizmor" --offline --pedantic "$root/.github" &&
		"$bin/python" "$root/docs/public_api.py" --check && (cd "$root" && "$bin/ruff" check)
}
use_dev() { "$bin/python" -m pytest -q -p no:cacheprovider tests/unit/sdk; }
use_all() { use_sdk && use_parquet && use_search && use_train && use_loadtest; }

extras() {
	"$bin/python" -c 'import importlib.metadata as m; print(*m.metadata("tuwen").get_all("Provides-Extra"))'
}

mkdir "$work/wheel" && "$server_python" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheel" . || exit 1
wheel=$(echo "$work"/wheel/*.whl)

# The server for all extras: it serves the demo's model, with the newest releases of the libraries.
environment server build,heif,serve "$server_python" && "$bin/tuwen" build build/demo/checkpoint --output "$work/repository" --image-rules display ||
	{ echo "FAILED: the server's environment" >&2 && exit 1; }
"$bin/tuwen" serve "$work/repository" --grpc-port 0 --http-port 0 --metrics-port 0 --json >"$work/ready" &
server=$!
while [ ! -s "$work/ready" ]; do
	kill -0 "$server" 2>/dev/null || { echo "FAILED: the demo's server" >&2 && exit 1; }
	sleep 1
done
TUWEN_URL=$("$bin/python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["grpc"])' "$work/ready")
export TUWEN_URL

every=$(extras)
failed=()
for extra in ${*:-sdk $every all}; do
	case $extra in
	sdk) chosen= ;;
	all) chosen=${every// /,} ;;
	*) chosen=$extra ;;
	esac
	log=$work/$extra.log
	if [ "$extra" = serve ] && ! "$client_python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then
		echo "left out: serve, which needs Python 3.10 to 3.13"
		continue
	fi
	if declare -F "use_$extra" >/dev/null && { environment "$extra" "$chosen" "$client_python" && "use_$extra"; } >"$log" 2>&1; then
		echo "works: $extra, numpy $("$bin/python" -c 'import numpy; print(numpy.__version__)')"
	else
		echo "FAILED: $extra" && tail -n 20 "$log" 2>/dev/null
		failed+=("$extra")
	fi
	rm -rf "${work:?}/$extra"
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2 && exit 1; }
