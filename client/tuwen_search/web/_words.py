"""The texts of the page in Chinese and in English."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["WORDS", "Language", "Words"]

Language = Literal["zh", "en"]


@dataclass(frozen=True)
class Words:
    """The texts of one language, with placeholders in braces."""

    other: str
    title: str
    pictures: str
    look_for: str
    without: str
    drop: str
    search: str
    weight: str
    more: str
    like_this: str
    nothing: str
    too_large: str
    no_picture: str
    labels: str
    labels_given: str
    classify: str
    score: str
    model: str
    times: str


WORDS: Mapping[Language, Words] = {
    "zh": Words(
        other="English",
        title="图文搜索",
        pictures="{count:,} 张图片",
        look_for="想找什么样的图片?",
        without="不要出现…",
        drop="拖入或选择一张图片",
        search="搜索",
        weight="图片 ⟷ 文字",
        more="更多",
        like_this="找相似的",
        nothing="没有找到图片",
        too_large="图片太大: 最多 {mib} MiB",
        no_picture="这不是可以读取的图片: {why}",
        labels="这张图里是什么?",
        labels_given="猫, 狗, 鸟, 花, 食物, 汽车, 人, 风景",
        classify="判断",
        score="相似度",
        model="{checkpoint} · {dimension} 维 · {precision} · 向量空间 {fingerprint}",
        times="编码 {embed:.0f} 毫秒 · 检索 {store:.0f} 毫秒",
    ),
    "en": Words(
        other="中文",
        title="Picture search",
        pictures="{count:,} pictures",
        look_for="What should the pictures show?",
        without="Without…",
        drop="Drop or choose a picture",
        search="Search",
        weight="picture ⟷ words",
        more="More",
        like_this="More like this",
        nothing="No pictures were found",
        too_large="The picture is too large: at most {mib} MiB",
        no_picture="This is no picture that can be read: {why}",
        labels="What is in this picture?",
        labels_given="cat, dog, bird, flower, food, car, person, landscape",
        classify="Tell",
        score="score",
        model="{checkpoint} · {dimension} dimensions · {precision} · embedding space {fingerprint}",
        times="{embed:.0f} ms to embed · {store:.0f} ms to find",
    ),
}
