"""The demo's gallery: some pictures of the held-out maker, named after the things that they show.

``python -m tuwen_lab.demo._gallery DATASET`` writes it again from the output of `tuwen dataset emoji`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tuwen_lab.datasets import RetrievalSplit
from tuwen_lab.demo import GALLERY

__all__ = ["THINGS", "write_gallery"]

THINGS = """
猫 狗 老虎 汽车 红苹果 红心 弯月 太阳 自行车 生日蛋糕
猫脸 狗脸 老虎头 青苹果 微笑的太阳 骑自行车
狐狸 狼 狮子 豹子 熊 熊猫 考拉 兔子 老鼠 松鼠 猴子 大象 长颈鹿 斑马 马 奶牛 猪 母羊 骆驼 公鸡 鸭子 企鹅 猫头鹰 鹰 天鹅
青蛙 龟 蛇 鳄鱼 鲸鱼 海豚 鲨鱼 热带鱼 章鱼 蟹 蜗牛 蝴蝶 蜜蜂 蜘蛛 蚂蚁
玫瑰 向日葵 郁金香 松树 仙人掌 蘑菇 枫叶 四叶草
桃 梨 樱桃 草莓 葡萄 西瓜 香蕉 柠檬 橘子 菠萝 西红柿 胡萝卜 玉米 茄子
面包 汉堡 薯条 披萨 热狗 饺子 寿司 面条 米饭 冰淇淋 甜甜圈 饼干 巧克力 糖 啤酒 葡萄酒 热茶 珍珠奶茶
公交车 出租车 救护车 消防车 摩托车 火车 飞机 直升机 火箭 帆船 拖拉机
房子 医院 学校 城市风光 山 火山 彩虹 云 下雨 雪人 星星 满月 闪电
足球 篮球 网球 吉他 小提琴 鼓 手机 笔记本电脑 电视机 相机 雨伞 眼镜 手表 钥匙 剪刀 铅笔 书 礼物 气球 蜡烛 灯泡 锤子
""".split()  # noqa: SIM905 - a list of words reads as words


def write_gallery(dataset: Path, output: Path) -> int:
    """Write a PNG for every one of `THINGS` that the test split shows.

    Returns:
        The number of pictures.
    """
    split = RetrievalSplit(dataset, "test")
    truths, labels = split.truths(), dict(split.texts())
    names = {images[0]: labels[text] for text, images in truths.items() if labels[text] in THINGS}
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    for number, content in split.images():
        if number in names:
            (output / f"{names[number]}.png").write_bytes(content)
    return len(names)


if __name__ == "__main__":
    sys.stdout.write(f"{GALLERY}: {write_gallery(Path(sys.argv[1]), GALLERY)} pictures\n")
