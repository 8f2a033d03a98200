"""The parts of a training: losses, batches, augmentation, and steps whose batch is computed in parts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from transformers import ChineseCLIPConfig, ChineseCLIPModel

from tests.support.shapes import ARCHITECTURE, write_shapes
from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.training import Stage
from tuwen_lab.training._augmentation import augment, on_white
from tuwen_lab.training._batches import Batch, Batches, pad
from tuwen_lab.training._captions import Caption, Captions
from tuwen_lab.training._loss import Proxies, clamp_logit_scale, contrastive_loss
from tuwen_lab.training._model import TwoTowers, new_model
from tuwen_lab.training._optimizer import Optimizer, averaged, learning_rate_at
from tuwen_lab.training._pictures import Pictures
from tuwen_lab.training._step import Stepper


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute with one thread, because on such small towers several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture
def batches(shapes: Path) -> Batches:
    split = RetrievalSplit(shapes, "train")
    pictures = Pictures(split, 32, cache_mib=10, workers=2)
    known: dict[str, int] = {}

    def tokenize(text: str) -> list[int]:
        return [101, *[known.setdefault(character, 1000 + len(known)) for character in text], 102]

    return Batches(pictures, Captions(split, pictures.ids), tokenize, size=12, recipe="artwork", seed=3)


class TestLoss:
    def test_with_one_right_answer_for_each_picture_the_loss_is_clips(self) -> None:
        """If each picture has exactly one right text, the loss equals CLIP's loss.

        CLIP's loss is the mean of the cross-entropies from pictures to texts and from texts to pictures, as in
        cn_clip's ``get_loss``.
        """
        images, texts = (functional.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
        scale = torch.tensor(14.3)
        logits = scale * images @ texts.T
        right = torch.arange(6)
        expected = (functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)) / 2
        torch.testing.assert_close(contrastive_loss(images, texts, scale, torch.eye(6).bool()), expected)

    def test_the_loss_pulls_all_right_answers_to_a_picture(self) -> None:
        images = torch.eye(3)[[0, 0, 1]].requires_grad_()
        texts = torch.eye(3)[[0, 1, 2]].clone().requires_grad_()
        fits = torch.tensor([[True, True, False], [True, True, False], [False, False, True]])
        contrastive_loss(images, texts, torch.tensor(1.0), fits).backward()
        assert texts.grad is not None
        assert texts.grad[1, 0] < 0  # the second text fits the first two pictures: the gradient pulls it to them
        assert texts.grad[2, 0] > 0  # the third text does not fit them: the gradient pushes it away

    def test_the_logit_scale_stays_between_1_and_100(self) -> None:
        for start, end in ((5.0, np.log(100)), (-1.0, 0.0), (2.0, 2.0)):
            scale = torch.nn.Parameter(torch.tensor(start))
            clamp_logit_scale(scale)
            assert scale.item() == pytest.approx(end)

    def test_new_proxies_give_every_class_the_same_probability(self) -> None:
        proxies = Proxies(10, 4)
        assert proxies(torch.randn(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(np.log(10))


class TestBatches:
    def test_a_step_always_has_the_same_batch(self, batches: Batches) -> None:
        first = [batches.batch(step) for step in range(6)]
        again = [batches.batch(5), *batches.between(0, 5)]
        for one, other in zip([first[5], *first[:5]], again, strict=True):
            for name, tensor in vars(one).items():
                torch.testing.assert_close(getattr(other, name), tensor, rtol=0, atol=0)
        assert not torch.equal(first[0].pixels, first[4].pixels)

    def test_an_epoch_shows_every_picture_once(self, batches: Batches) -> None:
        assert batches.an_epoch == 4
        groups = torch.cat([batch.groups for batch in batches.between(0, 4)])
        assert groups.bincount().tolist() == [6] * 8

    def test_a_picture_fits_every_caption_that_describes_its_group(self, batches: Batches) -> None:
        batch = batches.batch(0)
        assert batch.fits.diagonal().all()
        for picture in range(12):
            for caption in range(12):
                right = batch.caption_groups[caption, batch.groups[picture]] > 0
                assert batch.fits[picture, caption] == right
        torch.testing.assert_close(batch.caption_groups.sum(1), torch.ones(12))
        assert batch.fits.sum() > 12  # a caption with a colour alone fits several pictures

    def test_a_caption_of_two_texts_fits_pictures_that_fit_both(self, shapes: Path) -> None:
        split = RetrievalSplit(shapes, "train")
        captions = Captions(split, [image for image, _ in split.images()])
        texts = [text for _, text in split.texts()]
        both = Caption("红色，圆形", frozenset({texts.index("红色"), texts.index("圆形")}))
        assert captions.fits([both], [0, 6, 12]).flatten().tolist() == [True, False, False]
        assert captions.fitting_groups([both])[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]

    def test_easing_begins_with_pictures_without_augmentation(self, shapes: Path) -> None:
        split = RetrievalSplit(shapes, "train")
        pictures = Pictures(split, 32, cache_mib=0, workers=1)
        captions = Captions(split, pictures.ids)
        eased = Batches(pictures, captions, lambda _: [1, 2], size=48, recipe="artwork", seed=0, easing=100)
        plain = {picture.numpy().tobytes() for picture in on_white(pictures.batch(range(48)))}
        shares = [
            np.mean([picture.numpy().tobytes() in plain for picture in eased.batch(step).pixels])
            for step in (0, 50, 100)
        ]
        assert shares[0] == 1
        assert 0.2 < shares[1] < 0.8
        assert shares[2] == 0

    def test_shorter_texts_are_padded_with_zeros(self) -> None:
        ids, mask = pad([[5, 6, 7], [8]])
        assert ids.tolist() == [[5, 6, 7], [8, 0, 0]]
        assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


class TestAugmentation:
    @pytest.mark.parametrize("recipe", ["photographs", "artwork"])
    def test_augmented_pictures_keep_their_shape_and_range(self, batches: Batches, recipe: str) -> None:
        pictures = batches._pictures.batch(range(48))
        varied = augment(pictures, recipe, torch.ones(48, dtype=torch.bool), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        assert varied.shape == (48, 3, 32, 32)
        assert 0 <= varied.min() <= varied.max() <= 1
        assert len({picture.numpy().tobytes() for picture in varied}) == 48

    def test_only_pictures_that_may_be_flipped_are_flipped(self) -> None:
        may_flip = torch.arange(200) < 100
        opaque = torch.zeros(200, 4, 16, 16, dtype=torch.uint8)
        opaque[:, 3] = 255
        opaque[:, :3, :, 8:] = 255  # the right half is white
        varied = augment(opaque, "photographs", may_flip, torch.Generator().manual_seed(0)).mean((1, 2))
        flipped = varied[:, :8].mean(1) > varied[:, 8:].mean(1)
        assert 25 < flipped[:100].sum() < 75
        assert not flipped[100:].any()

    def test_transparent_pixels_are_blended_with_white(self) -> None:
        picture = torch.tensor([200, 100, 0, 51], dtype=torch.uint8).view(1, 4, 1, 1)
        expected = torch.tensor([200, 100, 0]) / 255 * 0.2 + 0.8
        torch.testing.assert_close(on_white(picture).flatten(), expected)


class TestSteps:
    def test_equal_texts_under_two_ids_fit_the_pictures_of_both(self, tmp_path: Path) -> None:
        """Two texts that are equal after preparation are right for the pictures of both texts.

        As in cn_clip, the preparation straightens curly quotes and converts to lower case.
        """
        texts = {1: "印着“囍”的T恤", 2: '印着"囍"的t恤'}
        image = io.BytesIO()
        Image.new("RGB", (4, 4)).save(image, "PNG")
        encoded = base64.b64encode(image.getvalue()).decode()
        lines = [json.dumps({"text_id": row, "text": text, "image_ids": [row]}) for row, text in texts.items()]
        (tmp_path / "train_texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (tmp_path / "train_imgs.tsv").write_text("".join(f"{row}\t{encoded}\n" for row in texts), encoding="utf-8")
        captions = Captions(RetrievalSplit(tmp_path, "train"), [1, 2])
        sampled = captions.sample([0, 1], "photographs", np.random.default_rng(0))
        assert [caption.text for caption in sampled] == [texts[2], texts[2]]
        assert captions.fits(sampled, [0, 1]).all()
        assert captions.groups == 1

    @pytest.fixture
    def towers(self, batches: Batches) -> TwoTowers:
        torch.manual_seed(0)
        config = ChineseCLIPConfig(**ARCHITECTURE)
        return TwoTowers(ChineseCLIPModel(config)).train()  # so that the text tower drops activations

    def gradients(self, towers: TwoTowers, batch: Batch, stage: Stage, parts: int) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(1)
        proxies = Proxies(8, 32)
        proxies.vectors.data.normal_(std=0.2)
        towers.zero_grad()
        stepper = Stepper(towers, proxies, lambda pixels: pixels * 2 - 1, nullcontext, parts)
        loss = stepper.backward(batch, stage)
        parameters = [*towers.parameters(), *proxies.parameters()]
        return loss, [torch.zeros(1) if parameter.grad is None else parameter.grad.clone() for parameter in parameters]

    @pytest.mark.parametrize("stage", [Stage("whole", 1, 1e-3, proxies=True), Stage("frozen", 1, 1e-3, True)])
    def test_a_step_in_parts_has_the_same_loss_and_gradients(
        self, towers: TwoTowers, batches: Batches, stage: Stage
    ) -> None:
        towers.eval()  # no dropout, whose random numbers would depend on the number of parts
        towers.freeze_images(stage.frozen_images)
        whole, expected = self.gradients(towers, batches.batch(0), stage, 1)
        for parts in (3, 5, 12, 13):
            loss, found = self.gradients(towers, batches.batch(0), stage, parts)
            assert loss == pytest.approx(whole, rel=1e-5)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)

    def test_parts_are_embedded_twice_with_the_same_dropout_and_patches(
        self, towers: TwoTowers, batches: Batches
    ) -> None:
        seen: list[torch.Tensor] = []
        original = towers.texts
        towers.texts = lambda *inputs: seen.append(original(*inputs)) or seen[-1]  # type: ignore[method-assign, func-returns-value]
        self.gradients(towers, batches.batch(0), Stage("start", 1, 1e-3, kept_patches=0.5), 2)
        assert len(seen) == 4
        torch.testing.assert_close(seen[2], seen[0])
        torch.testing.assert_close(seen[3], seen[1])

    @pytest.mark.parametrize("name", ["adamw", "muon"])
    def test_a_frozen_image_tower_does_not_learn(self, towers: TwoTowers, batches: Batches, name: str) -> None:
        towers.freeze_images(True)
        optimizer = Optimizer([towers], name, 0.1)  # type: ignore[arg-type]
        before = {name: value.clone() for name, value in towers.named_parameters()}
        self.gradients(towers, batches.batch(0), Stage("frozen", 1, 1e-3, frozen_images=True), 1)
        optimizer.step(1e-2, torch.amp.GradScaler(enabled=False))
        changed = {name.split(".")[1] for name, value in towers.named_parameters() if not value.equal(before[name])}
        assert changed == {"text_model", "text_projection", "logit_scale"}

    def test_fewer_patches_give_other_vectors(self, towers: TwoTowers, batches: Batches) -> None:
        towers.eval()
        pixels = batches.batch(0).pixels
        whole = towers.images(pixels)
        torch.testing.assert_close(
            whole, functional.normalize(towers.clip.get_image_features(pixels).pooler_output, dim=-1)
        )
        assert not torch.allclose(towers.images(pixels, 0.5), whole)

    def test_vectors_of_a_new_tower_are_less_alike_than_with_plain_initialisation(self, batches: Batches) -> None:
        torch.manual_seed(0)
        pixels = on_white(batches._pictures.batch(range(48))) * 2 - 1
        vectors = TwoTowers(new_model(ARCHITECTURE, pixels)).eval().images(pixels)
        plain = TwoTowers(ChineseCLIPModel(ChineseCLIPConfig(**ARCHITECTURE))).eval().images(pixels)
        assert (vectors @ vectors.T).mean() < (plain @ plain.T).mean()

    def test_the_learning_rate_rises_and_falls(self) -> None:
        rates = [learning_rate_at(step, 100, 10, 1.0) for step in range(100)]
        assert rates[0] == pytest.approx(0.1)
        assert rates[9] == rates[10] == 1.0
        assert rates[10:] == sorted(rates[10:], reverse=True)
        assert rates[-1] < 0.001
        assert max(learning_rate_at(step, 4, 10, 1.0) for step in range(4)) == 1.0

    def test_the_average_of_the_weights_follows_the_weights(self) -> None:
        model = torch.nn.Linear(1, 1, bias=False)
        model.weight.data.fill_(0.0)
        mean = averaged(model, 0.9)
        mean.update_parameters(model)
        model.weight.data.fill_(1.0)
        for _ in range(200):
            mean.update_parameters(model)
        assert mean.module.weight.item() == pytest.approx(1, abs=1e-3)
        model.weight.data.fill_(2.0)
        mean.update_parameters(model)
        assert mean.module.weight.item() == pytest.approx(1.1, abs=1e-3)


def test_pictures_are_squashed_and_keep_their_transparency(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    Image.new("RGBA", (60, 20), (10, 20, 30, 40)).save(encoded, "PNG")
    (tmp_path / "train_imgs.tsv").write_text(f"7\t{base64.urlsafe_b64encode(encoded.getvalue()).decode()}\n", "ascii")
    (tmp_path / "train_texts.jsonl").write_text("", encoding="utf-8")
    with Pictures(RetrievalSplit(tmp_path, "train"), 16, cache_mib=1, workers=1) as pictures:
        batch = pictures.batch([0, 0])
    assert pictures.ids == [7]
    assert batch.shape == (2, 4, 16, 16)
    assert batch[1, 3].unique().tolist() == [40]
