"""The work: photographs and Chinese queries, the same for a seed."""

from __future__ import annotations

import io
import random

from PIL import Image

from tuwen_build.samples import sample

__all__ = ["photographs", "queries"]

_PHOTOGRAPHS = ("cat.jpg", "coffee.jpg", "astronaut.jpg", "rocket.jpg")
_WORDS = """
红色 蓝色 白色 黑色 复古 简约 可爱 高级感 大码 宽松 夏季 冬季 儿童 男士 女士 学生 户外 家用 车载 便携
连衣裙 牛仔裤 运动鞋 双肩包 保温杯 台灯 书桌 沙发 窗帘 地毯 耳机 键盘 手机壳 自行车 帐篷 雨伞 太阳镜 项链
猫 狗 海边 日落 雪山 森林 城市夜景 老街 咖啡馆 早餐 生日蛋糕 火锅 樱花 古镇 婚礼 合影 手绘 插画
""".split()  # noqa: SIM905 - a list of words reads as words
_SHORTEST, _LONGEST = 4, 20


def photographs(count: int, *, size: tuple[int, int] = (640, 480), seed: int = 0) -> list[bytes]:
    """JPEGs, each another part of one of our sample photographs, as a phone or a shop would send them."""
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
    """Different search queries of 4 to 20 characters."""
    choose = random.Random(seed)  # noqa: S311 - no secret
    found: dict[str, None] = {}
    while len(found) < count:
        query = "".join(choose.sample(_WORDS, choose.randint(2, 8)))
        if _SHORTEST <= len(query) <= _LONGEST:
            found[query] = None
    return list(found)
