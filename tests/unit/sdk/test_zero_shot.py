"""Zero-shot classification: the templates, the mean of their vectors, and the cache of label vectors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tuwen import Client, InvalidArgumentError
from tuwen._images import encoded_bytes
from tuwen.testing import FakeTransport
from tuwen.zero_shot import LabelCache, template_texts

IMAGE = encoded_bytes(Image.new("RGB", (4, 4)))


def test_a_label_is_the_normalised_mean_of_its_templates() -> None:
    templates = ["{}", "一张{}的照片"]
    with Client(transport=FakeTransport()) as clip:
        result = clip.classify([IMAGE, IMAGE], ["猫", "狗", "鸟"], templates=templates)
        vectors = []
        for label in result.labels:
            mean = clip.embed_texts([template.replace("{}", label) for template in templates]).mean(axis=0)
            vectors.append(mean / np.linalg.norm(mean))
        cosine = clip.embed_images([IMAGE, IMAGE]) @ np.stack(vectors).T
    np.testing.assert_allclose(result.scores.cosine, cosine, atol=1e-6)
    np.testing.assert_allclose(result.scores.probabilities.sum(axis=1), 1, atol=1e-5)
    assert result.best == tuple(result.labels[index] for index in cosine.argmax(axis=1))


def test_label_vectors_are_computed_once() -> None:
    transport = FakeTransport()
    with Client(transport=transport) as clip:
        first = clip.classify([IMAGE], ["猫", "狗"])
        sent = len(transport.requests)
        again = clip.classify([IMAGE], ["狗", "猫"])
        assert [request.input_name for request in transport.requests[sent:]] == ["image"]
        np.testing.assert_array_equal(again.scores.cosine[:, ::-1], first.scores.cosine)
        sent = len(transport.requests)
        clip.classify([IMAGE], ["猫", "鸟"])
        texts = [
            item.decode()
            for request in transport.requests[sent:]
            for item in request.items
            if request.input_name == "text"
        ]
        assert len(texts) == 12
        assert all("鸟" in text for text in texts)
        clip.classify([IMAGE], ["猫"], templates="none")
        assert transport.requests[-1].input_name == "image"  # the client remembers the text "猫"


def test_the_cache_drops_the_least_recently_used_label() -> None:
    cache = LabelCache(size=2)
    one = np.ones(1, dtype=np.float32)
    cache.remember({"a": one, "b": one}, ("{}",))
    cache.known(("a",), ("{}",))
    cache.remember({"c": one}, ("{}",))
    assert set(cache.known(("a", "b", "c"), ("{}",))) == {"a", "c"}
    assert cache.known(("a",), ("a {}",)) == {}


def test_many_threads_can_classify_at_once() -> None:
    with Client(transport=FakeTransport()) as clip, ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: clip.classify([IMAGE], ["猫", f"狗{number % 3}"]), range(60)))
    assert len({result.scores.cosine.tobytes() for result in results}) <= 3


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "at least one"),
        ("猫狗", "list of labels"),
        (["猫", 3], "label 1: expected a str"),
        (["猫", "猫"], "label 1: .*repeated"),
    ],
)
def test_invalid_labels_are_refused(labels: Any, message: str) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=message):
        clip.classify([IMAGE], labels)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ("fr", "templates: expected 'none', 'zh', 'en', or a list"),
        ([], "at least one template"),
        (["{}", "photo"], "template 1: "),
    ],
)
def test_invalid_templates_are_refused(templates: Any, message: str) -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match=message):
        clip.classify([IMAGE], ["猫"], templates=templates)


def test_classifying_no_images_is_refused() -> None:
    with Client(transport=FakeTransport()) as clip, pytest.raises(InvalidArgumentError, match="at least one image"):
        clip.classify([], ["猫"])


@pytest.mark.parametrize("language", ["zh", "en", "none"])
def test_every_built_in_template_contains_the_label_once(language: Any) -> None:
    texts = template_texts(language)
    assert all(text.count("{}") == 1 for text in texts)
    assert len(set(texts)) == len(texts)
