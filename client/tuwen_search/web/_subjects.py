"""Frequent subjects of pictures. The page suggests the subjects that occur in its collection."""

from __future__ import annotations

from collections.abc import Mapping

from tuwen_search.web._words import Language

__all__ = ["SUBJECTS"]

_CHINESE = """
猫 狗 鸟 马 鱼 昆虫 野生动物 花 树 森林 山 海边 河流 日落 雪景 下雨 夜空 月亮
城市 街道 建筑 房子 桥 汽车 自行车 火车 飞机 船 水果 蔬菜 蛋糕 咖啡 面包 面条 餐桌 衣服
鞋子 包 帽子 手表 眼镜 首饰 家具 椅子 灯 手机 电脑 书 乐器 玩具 足球 游泳 跑步 舞蹈
婚礼 孩子 老人 一群人 人脸 绘画 海报 文字 地图 图表 红色的东西 绿色的植物
"""
_ENGLISH = """
cat, dog, bird, horse, fish, insect, wild animal, flower, tree, forest, mountain, a beach, river, sunset, snow, rain,
the night sky, moon, city, street, building, house, bridge, car, bicycle, train, airplane, boat, fruit, vegetables,
cake, coffee, bread, noodles, a table with food, clothes, shoes, bag, hat, watch, glasses, jewelry, furniture, chair,
lamp, phone, computer, book, a musical instrument, toy, football, swimming, running, dancing, wedding, child,
an old person, a group of people, face, painting, poster, text, map, chart, something red, green plants
"""

SUBJECTS: Mapping[Language, tuple[str, ...]] = {
    "zh": tuple(_CHINESE.split()),
    "en": tuple(" ".join(_ENGLISH.split()).split(", ")),
}
"""The same subjects, in the same order, in each language of the page."""
