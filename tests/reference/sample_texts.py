"""Write ``build/tuwen_repository/samples/texts.json``: difficult texts, and their token ids in cn_clip and open_clip.

PYTHONPATH=$ORIGINALS python -m tests.reference.sample_texts > build/tuwen_repository/samples/texts.json
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import BertTokenizer, CLIPTokenizer

from tests.reference import importable  # noqa: F401 - before the originals

from cn_clip.clip import bert_tokenizer  # isort: skip
from cn_clip.clip.utils import _tokenizer as cn_clip_tokenizer  # isort: skip
from open_clip.tokenizer import SimpleTokenizer  # isort: skip

from tests.reference.open_clip_reference import vocabulary

# name, text, repetitions
TEXTS = [
    ("chinese", "一只可爱的橘猫在沙发上睡觉", 1),
    ("short", "猫", 1),
    ("english", "A photo of a tabby cat, sleeping.", 1),
    ("mixed", "红色iPhone 15 Pro手机壳，包邮！", 1),
    ("unknown_words", "supercalifragilistic naïve façade Ελλάδα Привет", 1),
    ("traditional", "臺灣的貓熊與鳳梨酥", 1),
    ("numbers", "2024年12月25日，价格¥1,299.00，-15℃", 1),
    ("exactly_50_tokens", "猫" * 50, 1),
    ("51_tokens", "猫" * 51, 1),
    ("empty", "", 1),
    ("spaces", "     ", 1),
    ("emoji", "😀👍🏽👨‍👩‍👧‍👦🇨🇳❤️ 笑脸", 1),
    ("rare_cjk", "𠮷野家 㐀㐁 𪚥 𫝀 𫠠 𬺰 豈更車 你", 1),
    ("extension_e", "𫠠𬺰a𫠡b", 1),
    ("full_width", "ＡＢＣ１２３，。！？（全角）　空格", 1),
    ("japanese_korean", "ひらがなカタカナｶﾀｶﾅ 한국어 테스트", 1),
    ("10000_characters", "一只猫 a cat, ", 1000),
    ("long_word_100", "a" * 100, 1),
    ("long_word_150", "a" * 150, 1),
    ("long_word_201", "a" * 201, 1),
    (
        "control_characters",
        "a\x00b\x01c\td\ne\rf\x0bg\x0ch\x1fi\x7fj\x85k\u200bl\u200em\ufeffn\u2028o\u2029p",
        1,
    ),
    ("special_tokens", "[SEP] 猫 [CLS][MASK] [PAD] [UNK]", 1),
    ("quotes", "“猫”和‘狗’ \"cat\" 'dog' 「鳥」", 1),
    ("private_use", "\ue000猫\uf8ff", 1),
    ("final_sigma", "ΟΔΥΣΣΕΥΣ Σ ΑΣ猫 ΑΣ.", 1),
    ("combining", "e\u0301 n\u0303 ñ İstanbul ｅ\u0301 ก็ ा", 1),
    ("replacement", "猫\ufffd狗", 1),
    ("bidirectional", "\u202eabc\u202c \u2067אבג\u2069", 1),
    ("new_punctuation", "⸺猫⸻𐫰𞥞", 1),
    ("html", "&amp; <b>猫</b> &nbsp;", 1),
    ("clip_special_tokens", "a cat <|endoftext|> a dog <|startoftext|>", 1),
    ("mojibake", "schÃ¶n, â€œcatâ€\x9d and cafÃ© sous", 1),
    ("ligatures", "a ﬁne ﬂower ﬃ ĳ №5 ½", 1),
    ("contractions", "It's the dog's ball; they'LL say we've I'm don't 'd 'S", 1),
    ("77_words", "a photo of a very small cat ", 20),
    ("numbers_and_signs", "3.14159 1,000,000 $99.99!!! a_b-c#d @user https://example.org/?q=1&x=2", 1),
]


def main() -> None:
    """Print the content of the file as JSON."""
    wordpiece = Path(bert_tokenizer.default_vocab()).parent
    byte_pairs = SimpleTokenizer()
    with TemporaryDirectory() as folder:
        vocabulary(folder)
        theirs = {
            "chinese_clip_wordpiece": BertTokenizer.from_pretrained(wordpiece),
            "bert_wordpiece": BertTokenizer.from_pretrained(wordpiece),
            "clip_bpe": CLIPTokenizer.from_pretrained(folder),
        }
    entries = []
    for name, text, times in TEXTS:
        whole = text * times
        token_ids = {
            "chinese_clip_wordpiece": cn_clip_tokenizer.convert_tokens_to_ids(cn_clip_tokenizer.tokenize(whole)),
            "clip_bpe": byte_pairs.encode(whole),
        }
        everyday = [
            kind
            for kind, tokenizer in theirs.items()
            if token_ids.get(kind) in (None, tokenizer(whole, split_special_tokens=True)["input_ids"][1:-1])
        ]
        ids = {kind: ids[:510] for kind, ids in token_ids.items()}
        entry = {"name": name, "text": text, "times": times, "everyday": everyday, "token_ids": ids}
        entries.append({key: value for key, value in entry.items() if (key, value) != ("times", 1)})
    head = {
        "made_by": "tests/reference/sample_texts.py",
        "vocabularies": {
            "chinese_clip_wordpiece": {"made_by": "cn_clip", "sha256": digest(cn_clip_tokenizer.vocab)},
            "clip_bpe": {"made_by": "open_clip", "sha256": digest(theirs["clip_bpe"].get_vocab())},
        },
    }
    lines = ",\n".join("    " + json.dumps(entry, ensure_ascii=True) for entry in entries)
    print(json.dumps(head)[:-1] + ', "texts": [\n' + lines + "\n]}")


def digest(vocabulary: dict[str, int]) -> str:
    """Return a hash of a vocabulary's tokens, joined by newlines in the order of their ids."""
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return hashlib.sha256("".join(token + "\n" for token in tokens).encode()).hexdigest()


if __name__ == "__main__":
    main()
