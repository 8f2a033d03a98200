"""The hook of MkDocs that corrects the theme's search for Chinese words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from docs.chinese_search import corrected, on_post_build

LOOP = "for(let o=s+1;o<t.length;o++)t.slice(s,o)in e&&(n[s]=o-s);let i=[0];"
JOIN = 's=>[...fe(s,this.index.invertedIndex)].join("* ")'
FAULTY = f"before;{LOOP}between;{JOIN};after"
CORRECTED = FAULTY.replace("o<t", "o<=t").replace("* ", " ")


@pytest.mark.parametrize("worker", [FAULTY, CORRECTED])
def test_considers_the_last_character_of_a_query(worker: str) -> None:
    assert corrected(worker) == CORRECTED


@pytest.mark.parametrize("worker", [LOOP, JOIN, "for(const word of words(query))add(word);"])
def test_rejects_a_theme_that_has_changed(worker: str) -> None:
    with pytest.raises(ValueError, match="expected 1 loop and 1 join"):
        corrected(worker)


def test_corrects_the_built_site(tmp_path: Path) -> None:
    worker = tmp_path / "assets" / "javascripts" / "workers" / "search.0a1b.min.js"
    worker.parent.mkdir(parents=True)
    worker.write_text(FAULTY, encoding="utf-8")
    on_post_build(SimpleNamespace(site_dir=str(tmp_path)))  # type: ignore[arg-type]
    assert worker.read_text(encoding="utf-8") == CORRECTED
