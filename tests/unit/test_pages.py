"""The Markdown pages of the project: their links, code blocks, commands and tables, and the site made from them."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from docs.pages import Block, anchors, blocks, joined_lines, links, resolved
from docs.staging import linked_pages, site_page
from tests.support.paths import ROOT
from tuwen_cli.settings import SETTINGS

# click, or the copy of click that newer versions of Typer contain.
CLICK = importlib.import_module(TyperGroup.__mro__[1].__module__)
IGNORED = {"node_modules"}
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part in IGNORED for part in path.relative_to(ROOT).parts)
)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def broken_links(page: str, text: str, root: Path = ROOT) -> list[str]:
    """Return the targets of the links of a page that lead to missing files or headings."""
    broken = []
    for link in links(text):
        if link.external:
            continue
        target, anchor = root / resolved(page, link.target), link.target.partition("#")[2]
        headings = text if link.target[0] == "#" or not anchor else _read(target)
        if not target.exists() or (anchor and anchor not in anchors(headings)):
            broken.append(link.target)
    return broken


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_exist(page: str) -> None:
    assert broken_links(page, text_of(page)) == []


@pytest.mark.parametrize("target", ["missing.md", "page.md#missing", "#missing"])
def test_finds_a_broken_link(tmp_path: Path, target: str) -> None:
    for name in ("page.md", "other.md"):
        (tmp_path / name).write_text("# A heading\n", encoding="utf-8")
    good = "[a](page.md#a-heading) [b](#here) [c](https://example.com/x)"
    assert broken_links("other.md", f"# Here\n{good} [d]({target})\n", tmp_path) == [target]


def test_code_blocks_hold_no_links_and_no_headings() -> None:
    page = "# One\n```bash\n# Two\necho '[a](missing.md)'\n```\n## Three: `x`\n"
    assert links(page) == []
    assert anchors(page) == ["one", "three-x"]


# --- Code blocks -----------------------------------------------------------------------------------------------------


def blocks_of(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page}:{block.line}")
        for page in PAGES
        for block in blocks(text_of(page))
        if block.language == language
    ]


@pytest.mark.parametrize("block", blocks_of("python"))
def test_python_blocks_parse(block: Block) -> None:
    compile(block.text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize("block", blocks_of("yaml"))
def test_yaml_blocks_parse(block: Block) -> None:
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize(
    "page", sorted(page for page in PAGES if re.match(r"docs/guides/connect/\w[\w-]*\.zh\.md", page))
)
def test_a_translation_of_a_recipe_has_the_code_of_its_original(page: str) -> None:
    def code(name: str) -> list[str]:
        return [ast.dump(ast.parse(block.text)) for block in blocks(text_of(name)) if block.language == "python"]

    assert code(page) == code(page.replace(".zh.md", ".md"))


def commands(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every command ``tuwen`` in a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.partition(" ")[0].rpartition("/")[2] == "tuwen":
            yield shlex.split(line, comments=True)[1:]


def check_command(arguments: list[str]) -> None:
    """Raise click's UsageError if the command, or one of its options, does not exist."""
    command = get_command(importlib.import_module("tuwen_cli.main")._app)
    context = CLICK.Context(command, info_name="tuwen")
    while isinstance(command, TyperGroup):
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        if not rest:
            return
        name, command, arguments = command.resolve_command(context, rest)
        context = CLICK.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(arguments))


@pytest.mark.parametrize("block", blocks_of("bash"))
def test_commands_of_tuwen_exist(block: Block) -> None:
    for arguments in commands(block.text):
        check_command(arguments)


@pytest.mark.parametrize("command", ["tuwen biuld x", "tuwen build x --otuput y", "tuwen dataset emojis x"])
def test_finds_a_command_that_does_not_exist(command: str) -> None:
    [arguments] = commands(command)
    with pytest.raises(CLICK.UsageError):
        check_command(arguments)


@pytest.mark.parametrize("block", blocks_of("bash"))
def test_targets_of_make_exist(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)) <= targets


# --- The site --------------------------------------------------------------------------------------------------------


def site_pages() -> dict[str, str]:
    return {page: text_of(page) for page in PAGES if page.startswith("docs/")}


def test_every_page_has_its_place_in_the_navigation() -> None:
    navigation = text_of("mkdocs.yml").partition("\nnav:")[2]
    listed = set(re.findall(r": ([\w/.-]+\.md)$", navigation, re.MULTILINE))
    english = {page.removeprefix("docs/") for page in site_pages() if not page.endswith(".zh.md")}
    linked = {f"repository/{page}" for page in linked_pages(site_pages())}
    assert english | {"reference/command-line.md"} == {page for page in listed if not page.startswith("repository/")}
    assert {page for page in listed if page.startswith("repository/")} <= linked


def test_collects_linked_pages_with_the_pages_that_they_link_to(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "one.md").write_text("[two](../two.md) ![picture](a.png) [code](x.py)", encoding="utf-8")
    for name in ("two.md", "two.zh.md", "guide/a.png", "guide/x.py"):
        (tmp_path / name).write_text("text", encoding="utf-8")
    found = linked_pages({"docs/index.md": "[one](../guide/one.md#part)"}, tmp_path)
    assert set(found) == {"guide/one.md", "two.md", "two.zh.md", "guide/a.png"}


def test_links_are_rewritten_to_paths_on_the_site() -> None:
    text = (
        "[a](../../guide/one.md#x) [b](../index.md) [code](../../client/tuwen/pixels.py) [c](#here) [d](https://x.org) "
        "[names](../public_api.txt)"
    )
    assert site_page("docs/guides/sdk.md", text, ["guide/one.md"], {}) == (
        "[a](../repository/guide/one.md#x) [b](../index.md) code [c](#here) [d](https://x.org) names"
    )


def test_a_picture_of_another_host_becomes_its_text() -> None:
    text = "![Version: 0.1.0](https://badges.example.com/0.1.0) [a](https://x.org) ![b](b.png)"
    assert site_page("docs/guides/sdk.md", text, [], {}) == "Version: 0.1.0 [a](https://x.org) ![b](b.png)"


def test_links_into_a_chinese_page_lead_to_the_anchors_of_the_original() -> None:
    text = "[a](deploy.zh.md#镜像) [b](#第一步) [c](deploy.zh.md) [d](deploy.md#the-images)"
    renamed = {"docs/guides/deploy.zh.md": {"镜像": "the-images"}, "docs/guides/sdk.zh.md": {"第一步": "first-step"}}
    assert site_page("docs/guides/sdk.zh.md", text, [], renamed) == (
        "[a](deploy.zh.md#the-images) [b](#first-step) [c](deploy.zh.md) [d](deploy.md#the-images)"
    )


def test_a_page_of_the_repository_leads_back_to_the_site() -> None:
    text = "[a](../docs/guides/deploy.md#the-images) [b](SECURITY.md)"
    assert site_page("docker/README.md", text, ["docker/README.md", "docker/SECURITY.md"], {}) == (
        "[a](../../guides/deploy.md#the-images) [b](SECURITY.md)"
    )


def test_a_line_break_between_chinese_characters_leaves_no_space() -> None:
    page = "一行，\n二行\n- 列表\n  续行 a\n下行\n\n段落\n```\n代\n码\n```\n"
    assert joined_lines(page) == "一行，二行\n- 列表续行 a\n下行\n\n段落\n```\n代\n码\n```\n"
    assert joined_lines("见\n[配置](a.md)\n一页") == "见[配置](a.md)一页"
    assert joined_lines("见\n[Triton](a.md)") == "见\n[Triton](a.md)"
    assert joined_lines("照片，\n16 个，\n`x`") == "照片，16 个，`x`"
    assert joined_lines("如下：\n1. 甲：\n- 乙：\n```\n丙") == "如下：\n1. 甲：\n- 乙：\n```\n丙"


def test_no_page_has_two_headings_with_one_anchor() -> None:
    for page, text in site_pages().items():
        assert len(set(anchors(text))) == len(anchors(text)), page


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 130
    assert len(text_of("README.zh.md").splitlines()) <= 130


# --- Tables that repeat the code -------------------------------------------------------------------------------------


def first_cells(page: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|([^|]*)\|", text_of(page), re.MULTILINE))))


def test_every_reason_of_a_refused_item_is_explained() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "client" / "tuwen").glob("*.py"))
    sources += text_of("model_repository/text_tokenization/1/tokens.py")
    sources += text_of("model_repository/text_tokenization/1/model.py")
    reasons = set(re.findall(r'(?:ItemError|_refusal)\(\s*"(\w+)"', sources))
    assert len(reasons) >= 10
    assert reasons <= first_cells("docs/reference/errors.md")


def test_every_exception_of_the_sdk_is_explained() -> None:
    import tuwen

    raised = {name for name in tuwen.__all__ if name.endswith("Error")} - {"TuwenError", "ServerError"}
    raised.discard("ServerStoppingError")  # the table has a row for its base class
    assert raised <= first_cells("docs/reference/errors.md")


def test_every_metric_and_alert_is_explained() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for name in ("model_repository", "build")
        for path in (ROOT / name).rglob("*.py")
    )
    names = set(re.findall(r'"(tuwen_\w+_(?:total|seconds))"', sources))
    names |= set(re.findall(r"alert: (\w+)", text_of("docker/kubernetes/files/alerts.yaml")))
    assert len(names) >= 14
    assert names <= first_cells("docs/reference/metrics.md")


def test_the_table_of_parameters_has_their_defaults() -> None:
    page = text_of("docs/reference/configuration.md")
    for path in (ROOT / "model_repository").glob("*_*/config.pbtxt"):
        if path.parent.name in ("image_preprocessing", "text_tokenization"):
            config = path.read_text(encoding="utf-8")
            for key, value in re.findall(r'key: "([A-Z_]+)" value \{ string_value: "(\w+)"', config):
                assert f"| `{path.parent.name}` | `{key}` | {value} |" in page


def test_every_environment_variable_is_explained() -> None:
    sources = [*(ROOT / "client").rglob("*.py"), *(ROOT / "build").rglob("*.py"), *(ROOT / "loadtest").rglob("*.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    names = set(re.findall(r"\"(TUWEN_[A-Z0-9_]+)\"", text)) - {"TUWEN_LOADTEST_PARENT"}  # for our own processes
    names |= {setting.name for setting in SETTINGS}
    assert len(names) >= 8
    assert names <= first_cells("docs/reference/configuration.md")
