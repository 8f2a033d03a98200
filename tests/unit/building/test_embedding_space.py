"""The rules of an embedding space, and the rules that a later version of tuwen adds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tuwen import ModelCard
from tuwen.testing import FakeTransport
from tuwen_repository.embedding_space import EmbeddingSpace

SPACE = EmbeddingSpace(
    image_size=224,
    precision="fp32",
    context_length=52,
    text_rules="reference",
    tokenizer=["kind", {}],
    vision_arithmetic=[],
    text_arithmetic=[],
)
CARD = FakeTransport().card


@dataclass(frozen=True, kw_only=True)
class LaterSpace(EmbeddingSpace):
    grayscale: bool = False


@dataclass(frozen=True, kw_only=True)
class LaterCard(ModelCard):
    grayscale: bool = False


def test_a_rule_of_a_later_version_leaves_fingerprints_of_models_without_it_as_they_are() -> None:
    later = LaterSpace(**vars(SPACE))
    assert later.rules() == SPACE.rules()
    assert replace(later, grayscale=True).rules() == {**SPACE.rules(), "grayscale": True}


def test_rules_of_the_first_version_are_always_part_of_the_fingerprint() -> None:
    assert {"resize", "image_rules", "jpeg_decoding", "image_size", "precision"} <= SPACE.rules().keys()


def test_a_card_without_a_rule_of_a_later_version_has_its_default() -> None:
    read = LaterCard.from_parameters(CARD.to_parameters(), CARD.max_batch_size)
    assert read == LaterCard(**vars(CARD))


def test_a_card_keeps_a_rule_that_is_true_or_false() -> None:
    for grayscale in (True, False):
        card = LaterCard(**vars(CARD), grayscale=grayscale)
        assert LaterCard.from_parameters(card.to_parameters(), card.max_batch_size) == card
