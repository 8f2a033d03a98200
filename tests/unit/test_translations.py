"""The Chinese pages beside their English originals: the same headings, code, tables, numbers and links."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

import pytest

from docs.pages import Block, anchors, blocks, inline_code, links, resolved, tables
from docs.staging import translated_anchors, translated_page
from tests.support.paths import ROOT

ENGLISH_ONLY = {"docs/reference/error-messages.md"}
"""Pages that a program writes from the English sources."""
ORIGINALS = sorted(
    {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if not path.match("*.zh.md")}
    | {"README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md"}
    | {"build/demo/README.md", "docker/monitoring/RUNBOOK.md"}
)
TRANSLATED = [page for page in ORIGINALS if page not in ENGLISH_ONLY]
WORDS = {
    "截止时间": "时限",
    "期限": "时限",
    "调用者": "调用方",
    "词元": "token",
    "检查点": "权重",
    "内置服务": "内嵌服务",
    "附加依赖": "附加组件",
    "嵌入空间": "向量空间",
    "你": "您",
}
"""Chinese words that the pages avoid, and the word that they use for the same thing."""
_DOCSTRING = re.compile(r'^( *)""".*?"""$', re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?! ?月)")  # no numbers of months, because English pages write their names


def text_of(page: str) -> str:
    path = ROOT / page
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def translation_of(page: str) -> str:
    return page.removesuffix(".md") + ".zh.md"


# --- What must be equal ----------------------------------------------------------------------------------------------


def code_of(block: Block) -> object:
    """Return the code of a block without comments, docstrings and labels, which a translation may change."""
    if block.language == "python":
        text = _DOCSTRING.sub(r'\1""', block.text)
        return ast.dump(compile(text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST))
    words = {
        "mermaid": r'"[^"\n]*"|(?<=: ).*|(?<= as ).*',
        "text": r"(?<=[\w*)]) {2,}.*",  # the second column has words
    }.get(block.language, r"(?:^|\s+)#.*")
    return [line.rstrip() for line in re.sub(words, "", block.text, flags=re.MULTILINE).splitlines()]


def code(text: str) -> list[tuple[str, object]]:
    return [(block.language, code_of(block)) for block in blocks(text)]


def rows(text: str) -> Iterator[tuple[int, int, int, list[str]]]:
    """Yield facts about each row of each table, which a translation must not change.

    The facts are the number of the table, the number of the row, the count of bars between cells, and the sorted code
    and numbers in the cells.
    """
    for table, lines in enumerate(tables(text), 1):
        for row, line in enumerate(lines, 1):
            prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)
            facts = sorted([*re.findall(r"`[^`]+`", line), *_NUMBER.findall(prose)])
            yield table, row, len(re.findall(r"(?<!\\)\|", line)), facts


def documented_names(text: str) -> list[str]:
    """Return the names whose docstrings the site shows on a page, in order."""
    return re.findall(r"^::: (\S+)", text, re.MULTILINE)


def targets(page: str, text: str) -> set[str]:
    """Return the targets of the links of a page: pages and headings, by their English names."""
    found = set()
    for link in links(text):
        path, anchor = resolved(page, link.target), link.target.partition("#")[2]
        if link.external:
            found.add(link.target)
            continue
        original = path.replace(".zh.md", ".md")
        if anchor and path != original:
            anchor = translated_anchors(text_of(path), text_of(original)).get(anchor, anchor)
        found.add(f"{original}#{anchor}" if anchor else original)
    return found


@pytest.mark.parametrize("page", TRANSLATED)
def test_every_page_is_there_in_chinese(page: str) -> None:
    assert (ROOT / translation_of(page)).is_file()


def test_every_chinese_page_has_an_english_one() -> None:
    chinese = list((ROOT / "docs").rglob("*.zh.md"))
    assert len(chinese) >= 25
    assert all(path.with_name(path.name.replace(".zh.md", ".md")).is_file() for path in chinese)


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_headings_of_its_original(page: str) -> None:
    assert len(anchors(text_of(translation_of(page)))) == len(anchors(text_of(page)))


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_code_of_its_original(page: str) -> None:
    assert code(text_of(translation_of(page))) == code(text_of(page))


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_has_the_rows_and_numbers_of_its_original(page: str) -> None:
    assert list(rows(text_of(translation_of(page)))) == list(rows(text_of(page)))


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_names_what_its_original_names(page: str) -> None:
    text, original = text_of(translation_of(page)), text_of(page)
    assert set(inline_code(text)) == set(inline_code(original))
    assert documented_names(text) == documented_names(original)


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_translation_links_to_what_its_original_links_to(page: str) -> None:
    assert targets(translation_of(page), text_of(translation_of(page))) == targets(page, text_of(page))


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_chinese_page_links_to_chinese_pages(page: str) -> None:
    linked = {resolved(page, link.target) for link in links(text_of(translation_of(page))) if not link.external}
    english = {path for path in linked - {page} if path.endswith(".md") and not path.endswith(".zh.md")}
    assert [path for path in sorted(english) if (ROOT / translation_of(path)).is_file()] == []


@pytest.mark.parametrize("page", TRANSLATED)
def test_a_chinese_page_uses_one_word_for_one_thing(page: str) -> None:
    text = text_of(translation_of(page))
    assert {word: better for word, better in WORDS.items() if word in text} == {}


def broken_bold(text: str) -> list[str]:
    """Return the bold words that GitHub shows with their asterisks.

    That happens if the asterisks stand between a punctuation mark on the inside and a character on the outside.
    """
    found = []
    for bold in re.finditer(r"(.?)\*\*([^*\n]+)\*\*(.?)", text):
        before, inside, after = bold.groups()
        closes = inside[-1].isalnum() or not after.isalnum()
        opens = inside[0].isalnum() or not before.isalnum()
        if not (opens and closes):
            found.append(inside)
    return found


@pytest.mark.parametrize("page", TRANSLATED)
def test_bold_words_are_bold_on_github(page: str) -> None:
    assert broken_bold(text_of(translation_of(page))) == []


def test_finds_bold_words_that_github_does_not_show() -> None:
    assert broken_bold("**甲（a）**乙 **丙。** 丁 **戊**（e）己，**庚**辛 壬**“癸”** 子") == ["甲（a）", "“癸”"]


# --- The comparison itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "original", "translation"),
    [
        (code, "```bash\ntuwen serve x  # stop: Ctrl-C\n```\n", "```bash\ntuwen serve y  # 停止：Ctrl-C\n```\n"),
        (
            code,
            '```python\ndef f():\n    """Yours."""\n    g(1)\n```\n',
            '```python\ndef f():\n    """您的。"""\n    g(2)\n```\n',
        ),
        (code, '```mermaid\nA["one"] --> B\n```\n', '```mermaid\nA["一"] --> C\n```\n'),
        (code, "```text\n├── AnError   what failed\n```\n", "```text\n├── OtherError   原因\n```\n"),
        (code, "```bash\nx\n```\n", "```text\nx\n```\n"),
        (rows, "| a | 1.5 s |\n", "| 甲 | 1.6 秒 |\n"),
        (rows, "| `--one` | a |\n", "| `--two` | 甲 |\n"),
        (rows, "| a | b |\n", "| 甲 |\n"),
        (rows, "| a |\n\n| b |\n", "| 甲 |\n"),
    ],
)
def test_finds_a_difference(facts: Callable[[str], object], original: str, translation: str) -> None:
    assert _listed(facts(original)) != _listed(facts(translation))


@pytest.mark.parametrize(
    ("facts", "original", "translation"),
    [
        (code, "```bash\ntuwen serve x  # stop: Ctrl-C\n```\n", "```bash\ntuwen serve x  # 停止：Ctrl-C\n```\n"),
        (code, '```python\ndef f():\n    """Yours."""\n```\n', '```python\ndef f():  # 注释\n    """您的。"""\n```\n'),
        (code, '```mermaid\nA["one"] -- "two" --> B\n```\n', '```mermaid\nA["一"] -- "二" --> B\n```\n'),
        (code, "```mermaid\nparticipant A as caller\n```\n", "```mermaid\nparticipant A as 调用方\n```\n"),
        (code, "```text\n├── AnError   what failed\n```\n", "```text\n├── AnError   原因\n```\n"),
        (rows, "| `x` of 1,000 | [a](b.md#2) |\n", "| 1,000 中的 `x` | [甲](b.zh.md#3) |\n"),
    ],
)
def test_allows_a_translation(facts: Callable[[str], object], original: str, translation: str) -> None:
    assert _listed(facts(original)) == _listed(facts(translation))


def _listed(found: object) -> object:
    return list(found) if isinstance(found, Iterator) else found


def test_a_translation_has_the_anchors_of_the_original() -> None:
    original, translation = "# One\n```bash\n# no heading\n```\n## Two: `x`\n", "# 一\n## 二\n"
    assert translated_page(translation, original) == "# 一 {: #one }\n## 二 {: #two-x }\n"
    assert translated_anchors(translation, original) == {"一": "one", "二": "two-x"}
    with pytest.raises(ValueError, match="expected 2 headings"):
        translated_page("# 一\n", original)
