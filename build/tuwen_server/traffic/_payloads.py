"""The payloads of a measurement: photographs and Chinese queries. The same seed gives the same payloads."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Sequence

from PIL import Image

from tuwen import AsyncClient, Client
from tuwen_repository.samples import sample
from tuwen_server.traffic._load import Ask, AsyncAsk

__all__ = ["CALLERS", "Work", "distinct_query", "photographs", "queries"]

# With 64 texts, a full batch of 32 waits while another is computed. Images take longer, so half is enough.
CALLERS = {"images": 32, "texts": 64}
"""The number of concurrent callers that keep a service busy, by kind."""
_PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "astronaut.jpg", "rocket.jpg")
_WORDS = """
红色 蓝色 白色 黑色 复古 简约 可爱 高级感 大码 宽松 夏季 冬季 儿童 男士 女士 学生 户外 家用 车载 便携
连衣裙 牛仔裤 运动鞋 双肩包 保温杯 台灯 书桌 沙发 窗帘 地毯 耳机 键盘 手机壳 自行车 帐篷 雨伞 太阳镜 项链
猫 狗 海边 日落 雪山 森林 城市夜景 老街 咖啡馆 早餐 生日蛋糕 火锅 樱花 古镇 婚礼 合影 手绘 插画
""".split()  # noqa: SIM905 - a list of words reads as words
_SHORTEST, _LONGEST = 4, 20
_WORD_COUNTS = (4, 5, 6)  # words of a distinct query: about ten characters, the mean of `queries`
_RANKS_OF_A_COUNT = 333_334  # a third of a million queries for each seed and number of words
_SCATTER = 2_654_435_761  # a prime, so that multiplying by it permutes the numbers below any power of the words


class Work:
    """The items of a measurement, one item for each call.

    Attributes:
        images: the encoded photographs. Each photograph is sent repeatedly, because images are not cached.
        texts: the queries. Each query is sent once, because client and server cache the vectors of texts.
    """

    def __init__(self, images: Sequence[bytes], texts: Sequence[str]) -> None:
        self.images, self.texts = images, texts
        self._images, self._texts = itertools.cycle(images), iter(texts)

    def next_image(self) -> bytes:
        """Return the next photograph."""
        return next(self._images)

    def next_text(self) -> str:
        """Return a new query."""
        return next(self._texts)

    def ask(self, kind: str, clip: Client) -> Ask:
        """Return a function that sends one item of a kind, ``images`` or ``texts``."""
        if kind == "images":
            return lambda: clip.embed_images([self.next_image()])
        return lambda: clip.embed_texts([self.next_text()])

    def async_ask(self, kind: str, clip: AsyncClient) -> AsyncAsk:
        """Return a function that sends one item of a kind, ``images`` or ``texts``, in an event loop."""
        if kind == "images":
            return lambda: clip.embed_images([self.next_image()])
        return lambda: clip.embed_texts([self.next_text()])


def photographs(count: int, *, size: tuple[int, int] = (640, 480), seed: int = 0) -> list[bytes]:
    """Return different JPEGs, cropped from the sample photographs, in the sizes that phones and shops send."""
    choose = random.Random(seed)  # noqa: S311 - no secret
    width, height = size
    result = []
    for number in range(count):
        with Image.open(sample(_PHOTOGRAPHS[number % len(_PHOTOGRAPHS)])) as image:
            share = choose.uniform(0.6, 1.0)
            part = min(image.width, image.height * width / height) * share
            left, top = choose.uniform(0, image.width - part), choose.uniform(0, image.height - part * height / width)
            box = (left, top, left + part, top + part * height / width)
            encoded = io.BytesIO()
            image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box).save(encoded, "JPEG", quality=88)
            result.append(encoded.getvalue())
    return result


def queries(count: int, *, seed: int = 0) -> list[str]:
    """Return different search queries of 4 to 20 characters."""
    choose = random.Random(seed)  # noqa: S311 - no secret
    found: dict[str, None] = {}
    while len(found) < count:
        query = "".join(choose.sample(_WORDS, choose.randint(2, 8)))
        if _SHORTEST <= len(query) <= _LONGEST:
            found[query] = None
    return list(found)


def distinct_query(rank: int, *, seed: int = 0) -> str:
    """Return the search query with this rank, from 0. The first million ranks of a seed give different queries.

    The queries of 28 consecutive seeds are disjoint. With more seeds, queries of four words may repeat. No word is the
    beginning of another word, so different sequences of words are different texts.
    """
    count = _WORD_COUNTS[rank % len(_WORD_COUNTS)]
    number = (seed * _RANKS_OF_A_COUNT + rank // len(_WORD_COUNTS)) * _SCATTER % len(_WORDS) ** count
    words = []
    for _ in range(count):
        number, word = divmod(number, len(_WORDS))
        words.append(_WORDS[word])
    return "".join(words)
