"""All file formats of a vocabulary give the same tokenizer. A different tokenizer is refused with a reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizer, CLIPTokenizer

from tests.support.checkpoints import TextSizes, VisionSizes, write_openai_clip, write_taiyi
from tests.support.originals import Originals
from tuwen_build.checkpoints import ReadOptions, open_checkpoint
from tuwen_build.checkpoints._tokenizers import chinese_clip_tokenization, clip_tokenization, taiyi_tokenization
from tuwen_build.errors import CheckpointError
from tuwen_build.export.fingerprint import fingerprint
from tuwen_build.repository import build_repository
from tuwen_repository.checksums import sha256_of
from tuwen_repository.manifest import Manifest
from tuwen_repository.samples import vocabulary

SIZE, CLIP_SIZE = 21128, 49408
SMALL = TextSizes(96, 3, 4)
Content = dict[str, Any]


@pytest.fixture(scope="module")
def folders(originals: Originals, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the checkpoints ``clip`` and ``taiyi``, which have the tokenizer files of transformers 4."""
    folder = tmp_path_factory.mktemp("folders")
    write_openai_clip(folder / "clip", VisionSizes(96, 3, 4, 16, 64), SMALL, 96, originals.clip_vocabulary())
    write_taiyi(folder / "taiyi", SMALL)
    return folder


@pytest.fixture(scope="module")
def saved(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an OpenAI CLIP checkpoint that has the tokenizer files of transformers 5."""
    folder = shutil.copytree(folders / "clip", tmp_path_factory.mktemp("saved") / "clip")
    return save_again(folder, CLIPTokenizer, "vocab.json", "merges.txt")


def save_again(folder: Path, tokenizer_class: Any, *former: str, **settings: Any) -> Path:
    """Load a tokenizer, save it again with transformers 5, and return the folder.

    Args:
        folder: the folder of the checkpoint, whose files are replaced.
        tokenizer_class: the class of the tokenizer in transformers.
        former: the names of the old files, which are removed.
        settings: keyword arguments of the tokenizer.
    """
    tokenizer = tokenizer_class.from_pretrained(folder, **settings)
    for name in former:
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    assert not any((folder / name).exists() for name in former)
    return folder


def change(folder: Path, edit: Callable[[Content], object]) -> None:
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


class TestWordPiece:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Return a folder with a BERT tokenizer in ``tokenizer.json``, without ``vocab.txt``."""
        folder = tmp_path / "saved"
        folder.mkdir()
        shutil.copy(vocabulary(), folder / "vocab.txt")
        return save_again(folder, BertTokenizer, "vocab.txt")

    def test_a_chinese_clip_saved_by_transformers_5_builds_the_same_space(
        self, checkpoint: Path, repository: Path, tmp_path: Path
    ) -> None:
        folder = save_again(shutil.copytree(checkpoint, tmp_path / "saved"), BertTokenizer, "vocab.txt")
        manifest = build_repository(str(folder), tmp_path / "out")
        assert manifest.fingerprint == Manifest.read(repository).fingerprint
        assert sha256_of(tmp_path / "out/text_tokenization/1/vocab.txt") == sha256_of(vocabulary())

    @pytest.mark.parametrize("lowercase", [True, False])
    def test_a_taiyi_saved_by_transformers_5_builds(self, folders: Path, tmp_path: Path, lowercase: bool) -> None:
        options = ReadOptions(vision=str(folders / "clip"))
        folder = shutil.copytree(folders / "taiyi", tmp_path / "saved")
        save_again(folder, BertTokenizer, "vocab.txt", do_lower_case=lowercase)
        manifest = build_repository(str(folder), tmp_path / "out", read_options=options)
        assert manifest.text_deviation.max_abs < 1e-5
        assert open_checkpoint(str(folder), options).tokenization.settings == {"lowercase": lowercase}

    def test_the_word_length_limit_must_match_the_tokenizer(self, folder: Path) -> None:
        change(folder, lambda content: content["model"].update(max_input_chars_per_word=200))
        rules = chinese_clip_tokenization(folder / "vocab.txt", SIZE, 512)
        assert rules.assets["vocab.txt"] == vocabulary().read_bytes()
        with pytest.raises(CheckpointError, match=r"model\.max_input_chars_per_word is 200.*; supported: 100"):
            taiyi_tokenization(folder, SIZE, 512)

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda c: c["normalizer"].update(lowercase=False), r"normalizer\.lowercase is false.*; supported: true"),
            (lambda c: c["normalizer"].update(strip_accents=False), r"normalizer\.strip_accents is false"),
            (lambda c: c["normalizer"].update(handle_chinese_chars=False), r"normalizer\.handle_chinese_chars"),
            (lambda c: c["normalizer"].update(clean_text=False), r"normalizer\.clean_text"),
            (
                lambda c: c.update(normalizer={"type": "NFKC"}),
                r'normalizer\.type is "NFKC".*supported: "BertNormalizer"',
            ),
            (lambda c: c.update(normalizer=None), "normalizer is null; expected BertNormalizer"),
            (lambda c: c.update(pre_tokenizer={"type": "Whitespace"}), r'pre_tokenizer\.type is "Whitespace"'),
            (lambda c: c["model"].update(type="BPE"), r'model\.type is "BPE"'),
            (lambda c: c["model"].update(unk_token="<unk>"), r"model\.unk_token"),
            (lambda c: c["model"].update(continuing_subword_prefix="_"), r"model\.continuing_subword_prefix"),
            (lambda c: c["model"].update(max_input_chars_per_word=50), r"model\.max_input_chars_per_word is 50"),
            (
                lambda c: c["model"].update(vocab=["[PAD]"]),
                r"expected an object of tokens .* in model\.vocab",
            ),
            (lambda c: c["model"]["vocab"].update({"[PAD]": 30000}), r"expected the ids 0 to 21127 in model\.vocab"),
            (
                lambda c: c["model"]["vocab"].update(one_more=SIZE),
                "expected 21128 tokens, as in the weights .*; got 21129",
            ),
            (
                lambda c: c["added_tokens"].append({"id": 2000, "content": "猫咪"}),
                'added_tokens holds "猫咪" with id 2000',
            ),
            (lambda c: c["added_tokens"][0].update(id=7), r'added_tokens holds "\[PAD\]" with id 7'),
            (lambda c: c.pop("model"), "model is null; expected WordPiece"),
        ],
    )
    def test_a_different_tokenizer_is_refused_with_the_differing_setting(
        self, folder: Path, edit: Callable[[Content], object], message: str
    ) -> None:
        change(folder, edit)
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json:? .*{message}"):
            chinese_clip_tokenization(folder / "vocab.txt", SIZE, 512)

    def test_a_file_that_contradicts_the_tokenizers_config_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        with pytest.raises(CheckpointError, match=r"normalizer\.lowercase is true.*; supported: false"):
            taiyi_tokenization(folder, SIZE, 512)

    @pytest.mark.parametrize("setting", ['"tokenize_chinese_chars": false', '"strip_accents": false'])
    def test_unsupported_rules_in_the_tokenizers_config_are_refused(self, folder: Path, setting: str) -> None:
        (folder / "tokenizer_config.json").write_text(f"{{{setting}}}")
        with pytest.raises(CheckpointError, match=r"tokenizer_config\.json says \w+ false; supported: "):
            taiyi_tokenization(folder, SIZE, 512)

    @pytest.mark.parametrize(
        "rewritten",
        [
            lambda published: published,
            lambda published: published.removesuffix(b"\n"),
            lambda published: published + b"\n\n",
            lambda published: published.replace(b"\n", b"\r\n"),
            lambda published: published.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
        ],
        ids=["as published", "no final newline", "empty lines at the end", "CRLF", "CRLF, no final newline"],
    )
    def test_line_ends_do_not_change_the_fingerprint(self, tmp_path: Path, rewritten: Callable[[bytes], bytes]) -> None:
        published = vocabulary().read_bytes()
        (tmp_path / "vocab.txt").write_bytes(rewritten(published))
        for rules in (
            chinese_clip_tokenization(tmp_path / "vocab.txt", SIZE, 512),
            taiyi_tokenization(tmp_path, SIZE, 512),
        ):
            assert rules.assets == {"vocab.txt": published}  # the fingerprint hashes these bytes

    def test_a_vocabulary_that_is_not_utf8_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
        with pytest.raises(CheckpointError, match=r"vocab\.txt is not UTF-8 text"):
            chinese_clip_tokenization(tmp_path / "vocab.txt", 2, 512)


class TestBytePairs:
    @pytest.fixture
    def folder(self, saved: Path, tmp_path: Path) -> Path:
        """Return a folder with a CLIP tokenizer in ``tokenizer.json``, without ``vocab.json`` and ``merges.txt``."""
        (tmp_path / "saved").mkdir()
        shutil.copy(saved / "tokenizer.json", tmp_path / "saved")
        return tmp_path / "saved"

    def test_a_clip_builds_from_the_same_vocabulary(self, saved: Path, folders: Path, tmp_path: Path) -> None:
        assert build_repository(str(saved), tmp_path / "out").text_deviation.max_abs < 1e-5
        got, expected = (clip_tokenization(folder, CLIP_SIZE, 77).assets for folder in (saved, folders / "clip"))
        assert got["merges.txt"] == expected["merges.txt"]
        assert json.loads(got["vocab.json"]) == json.loads(expected["vocab.json"])
        assert len(got["vocab.json"]) == 862328  # the size of this file in openai/clip-vit-base-patch32

    def test_the_forms_of_transformers_4_are_read(self, folder: Path) -> None:
        expected = clip_tokenization(folder, CLIP_SIZE, 77).assets

        def older(content: Content) -> None:
            model, split = content["model"], content["pre_tokenizer"]["pretokenizers"][0]
            model["merges"] = [" ".join(pair) for pair in model["merges"]]
            model.pop("ignore_merges")
            split["pattern"]["Regex"] = split["pattern"]["Regex"].removeprefix(r"<\|startoftext\|>|<\|endoftext\|>|")

        change(folder, older)
        assert clip_tokenization(folder, CLIP_SIZE, 77).assets == expected

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (
                lambda c: c["normalizer"]["normalizers"].pop(),
                r"normalizer\.normalizers is .*; expected the 3 parts NFC",
            ),
            (lambda c: c["normalizer"]["normalizers"][0].update(type="NFKC"), r'normalizers\[0\]\.type is "NFKC"'),
            (lambda c: c.update(normalizer={"type": "Lowercase"}), r'normalizer\.type is "Lowercase"'),
            (lambda c: c["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex="."), r"\[0\]\.pattern is"),
            (
                lambda c: c["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
                r"\.add_prefix_space is true",
            ),
            (lambda c: c["model"].update(type="WordPiece"), r'model\.type is "WordPiece"'),
            (lambda c: c["model"].update(end_of_word_suffix=""), r"model\.end_of_word_suffix"),
            (lambda c: c["model"].update(byte_fallback=True), r"model\.byte_fallback"),
            (lambda c: c["model"].update(dropout=0.1), r"model\.dropout is 0.1"),
            (lambda c: c["model"].update(merges=["a b c"]), r'model\.merges holds "a b c"; expected two tokens'),
            (lambda c: c["added_tokens"].append({"id": 0, "content": "!"}), 'added_tokens holds "!" with id 0'),
            (
                lambda c: c["model"]["vocab"].update(one_more=CLIP_SIZE),
                "expected 49408 tokens, which is vocab_size in config.json; got 49409",
            ),
        ],
    )
    def test_a_different_tokenizer_is_refused_with_the_differing_setting(
        self, folder: Path, edit: Callable[[Content], object], message: str
    ) -> None:
        change(folder, edit)
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json:? .*{message}"):
            clip_tokenization(folder, CLIP_SIZE, 77)

    def test_line_ends_of_merges_do_not_change_the_fingerprint(self, folders: Path, tmp_path: Path) -> None:
        published = (folders / "clip/merges.txt").read_bytes()
        shutil.copy(folders / "clip/vocab.json", tmp_path)
        for content in (published, published.replace(b"\n", b"\r\n"), published.removesuffix(b"\n")):
            (tmp_path / "merges.txt").write_bytes(content)
            rules = clip_tokenization(tmp_path, CLIP_SIZE, 77)
            assert rules.assets["merges.txt"] == published
            assert rules.assets["vocab.json"] == (tmp_path / "vocab.json").read_bytes()


def test_the_fingerprint_of_a_known_vocabulary_never_changes() -> None:
    """The fingerprint of a fixed encoder and the published vocabulary has a fixed value.

    The value was computed when the fingerprint still hashed the vocabulary's file. Another value would make the vectors
    that users have stored unusable.
    """
    encoder = torch.nn.Linear(1, 1)
    torch.nn.init.ones_(encoder.weight)
    torch.nn.init.zeros_(encoder.bias)
    rules = chinese_clip_tokenization(vocabulary(), SIZE, 512)
    assert fingerprint({"text": encoder}, {}, rules.assets.values()) == "c5ba7314fbbd85d77db2175d838e5e34"
