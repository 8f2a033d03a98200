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

    tag: str
    other: str
    title: str
    skip: str
    look_for: str
    search: str
    searching: str
    without: str
    without_hint: str
    choose: str
    drop: str
    remove: str
    your_picture: str
    like_picture: str
    weight: str
    filters: str
    least: str
    at_least: str
    at_most: str
    least_hint: str
    least_default: str
    apply: str
    clear: str
    suggestions: str
    sample: str
    results: str
    one_picture: str
    pictures: str
    shown: str
    more_than: str
    nothing: str
    nothing_fits: str
    hidden: str
    some_hidden: str
    weak_too: str
    show_all: str
    pages: str
    page: str
    previous_page: str
    next_page: str
    like_this: str
    details: str
    close: str
    previous: str
    next: str
    position: str
    original: str
    download: str
    thumbnail_only: str
    name: str
    source: str
    size: str
    score: str
    score_means: str
    score_part: str
    score_weight: str
    score_cosine: str
    labels: str
    labels_given: str
    classify: str
    answers: str
    two_labels: str
    cut: str
    too_long: str
    both: str
    same: str
    no_picture: str
    forgotten: str
    gone: str
    too_large: str
    no_file: str
    too_far: str
    filter_lost: str
    model_away: str
    model_busy: str
    model_other: str
    model_wrong: str
    store_away: str
    failed: str
    page_away: str
    retrying: str
    try_again: str
    dismiss: str
    about: str
    times: str
    model: str

    def counted(self, count: int) -> str:
        """Return a number of pictures in words."""
        return self.one_picture if count == 1 else self.pictures.format(count=count)


WORDS: Mapping[Language, Words] = {
    "zh": Words(
        tag="zh-CN",
        other="English",
        title="图文搜索",
        skip="跳到结果",
        look_for="想找什么样的图片？",
        search="搜索",
        searching="正在搜索…",
        without="不要",
        without_hint="不要出现…",
        choose="用图片搜索",
        drop="松开鼠标，用这张图片搜索",
        remove="移除：{what}",
        your_picture="你的图片",
        like_picture="相似于",
        weight="图片 ⟷ 文字",
        filters="筛选",
        least="最低分数",
        at_least="从",
        at_most="到",
        least_hint="分数更低的图片不显示；留空则全部显示。",
        least_default="分数更低的图片不显示。留空则为 {least:.2f}（仅用于文字搜索）；-1 则全部显示。",
        apply="应用",
        clear="清除筛选",
        suggestions="试试",
        sample="图库中的一些图片",
        results="搜索结果",
        one_picture="1 张图片",
        pictures="{count:,} 张图片",
        shown="第 {first:,}–{last:,} 张，共 {total} 张",
        more_than="{total:,} 以上",
        nothing="没有找到图片。换个说法，或放宽筛选。",
        nothing_fits="没有相符的图片：最接近的只有 {best:.2f} 分，至少需要 {least:.2f} 分。",
        hidden="{pictures}不到 {least:.2f} 分，没有显示。",
        some_hidden="不到 {least:.2f} 分的图片没有显示。",
        weak_too="显示所有分数",
        show_all="显示全部",
        pages="分页",
        page="第 {page} 页",
        previous_page="上一页",
        next_page="下一页",
        like_this="找相似的",
        details="查看：{name}",
        close="关闭",
        previous="上一张",
        next="下一张",
        position="第 {position:,} 张",
        original="打开原图",
        download="下载",
        thumbnail_only="这里只有缩略图。",
        name="名称",
        source="来源",
        size="尺寸",
        score="分数",
        score_means="分数是图片与整个查询的余弦相似度，最高为 1。文字与图片相符时一般为 0.2 到 0.5，"
        "两张相似的图片可接近 1。各部分按权重合成一个查询并归一化，所以下表的数值相加不等于分数。"
        "只能在同一次搜索中比较。",
        score_part="查询的部分",
        score_weight="权重",
        score_cosine="相似度",
        labels="这张图里是什么？（用逗号分隔）",
        labels_given="猫, 狗, 鸟, 花, 食物, 汽车, 人, 风景",
        classify="判断",
        answers="这些标签中最可能的",
        two_labels="请至少给出两个标签：只有一个时，结果总是 100%。",
        cut="“{text}”太长，模型只读了开头（最多约 {tokens} 个词元）。请写短一些。",
        too_long="查询太长，只用了前 {limit:,} 个字。",
        both="“{text}”既要出现又不要出现。请从其中一处移除。",
        same="想要的和不要的互相抵消了。请移除一个不要出现的词。",
        no_picture="这个文件不是可以读取的图片。请移除它，换一张 JPEG、PNG 或 WebP 图片。",
        forgotten="搜索用的图片已不在服务器上。请重新选择。",
        gone="这张图片已不在图库中。请返回搜索结果。",
        too_large="图片太大：最多 {mib} MiB。请换一张小一些的。",
        no_file="没有收到图片。请先选择一张。",
        too_far="最多可以翻到第 {limit:,} 张图片。请把查询写得更具体。",
        filter_lost="有一个筛选条件在图库中已不存在，未被使用。",
        model_away="模型服务器没有响应。",
        model_busy="现在搜索的人太多。",
        model_other="图库是用另一个模型建立的，暂时不能搜索。请通知管理员重新建立索引。",
        model_wrong="模型服务器的地址、证书或权限有误，暂时不能搜索。请通知管理员。",
        store_away="图库没有响应。",
        failed="搜索失败。请稍后再试；如果一直如此，请通知管理员。",
        page_away="连接不上这个网页的服务器。",
        retrying="{seconds} 秒后自动重试。",
        try_again="立即重试",
        dismiss="知道了",
        about="关于本页",
        times="编码 {embed:.0f} 毫秒 · 检索 {store:.0f} 毫秒",
        model="模型 {checkpoint} · {dimension} 维 · {precision} · 向量空间 {fingerprint}",
    ),
    "en": Words(
        tag="en",
        other="中文",
        title="Picture search",
        skip="Skip to the results",
        look_for="Describe a picture",
        search="Search",
        searching="Searching…",
        without="Without",
        without_hint="Without…",
        choose="Search by picture",
        drop="Drop the picture to search with it",
        remove="Remove: {what}",
        your_picture="Your picture",
        like_picture="Similar to",
        weight="Picture ⟷ words",
        filters="Filters",
        least="Lowest score",
        at_least="from",
        at_most="to",
        least_hint="Hides pictures with a lower score. Leave empty to show all.",
        least_default="Hides pictures with a lower score. Leave empty for {least:.2f} (in a search by words alone). "
        "Enter -1 to show all.",
        apply="Apply",
        clear="Clear filters",
        suggestions="Try",
        sample="Some pictures of this collection",
        results="Results",
        one_picture="1 picture",
        pictures="{count:,} pictures",
        shown="{first:,}–{last:,} of {total}",
        more_than="{total:,} or more",
        nothing="No pictures were found. Use other words or fewer filters.",
        nothing_fits="Nothing fits: the best picture has a score of {best:.2f}, below {least:.2f}.",
        hidden="Hidden, with a score below {least:.2f}: {pictures}.",
        some_hidden="Pictures with a score below {least:.2f} are hidden.",
        weak_too="All scores shown",
        show_all="Show all",
        pages="Pages",
        page="Page {page}",
        previous_page="Previous page",
        next_page="Next page",
        like_this="More like this",
        details="Show {name}",
        close="Close",
        previous="Previous",
        next="Next",
        position="Result {position:,}",
        original="Open the original",
        download="Download",
        thumbnail_only="Only a thumbnail is available here.",
        name="Name",
        source="Source",
        size="Size",
        score="Score",
        score_means="The score is the cosine similarity of the picture and the whole query, at most 1. Words and "
        "pictures that fit usually have 0.2 to 0.5; two similar pictures come close to 1. The parts "
        "form one query of length 1, so the numbers below do not add up to the score. Compare scores of "
        "one search only.",
        score_part="Part of the query",
        score_weight="Weight",
        score_cosine="Similarity",
        labels="What is in this picture? (separate with commas)",
        labels_given="cat, dog, bird, flower, food, car, person, landscape",
        classify="Classify",
        answers="Most likely of these labels",
        two_labels="Enter at least two labels: the result for a single label is always 100%.",
        cut="“{text}” is too long. The model read only its beginning, about {tokens} tokens. Use fewer words.",
        too_long="The query is too long. Only its first {limit:,} characters were used.",
        both="“{text}” is both wanted and not wanted. Remove it in one of the two places.",
        same="What you want and what you do not want cancel each other out. Remove a phrase after “Without”.",
        no_picture="The file is not a picture that can be read. Remove it and choose a JPEG, PNG or WebP picture.",
        forgotten="The picture that you searched with is no longer on the server. Choose it again.",
        gone="This picture is no longer in the collection. Go back to the results.",
        too_large="The picture is too large: at most {mib} MiB. Choose a smaller one.",
        no_file="No picture arrived. Choose one first.",
        too_far="You can see at most {limit:,} pictures. Make the query more specific.",
        filter_lost="A filter no longer exists in the collection and was not used.",
        model_away="The model server does not answer.",
        model_busy="Too many people are searching now.",
        model_other="The collection was made with another model and cannot be searched now. Ask the operator to "
        "index it again.",
        model_wrong="The model server cannot be used: its address, certificate or permissions are wrong. Tell the "
        "operator.",
        store_away="The collection does not answer.",
        failed="The search failed. Try again later. If it fails again, tell the operator.",
        page_away="The server of this page cannot be reached.",
        retrying="Trying again in {seconds} s.",
        try_again="Try again now",
        dismiss="Dismiss",
        about="About this page",
        times="{embed:.0f} ms to embed · {store:.0f} ms to search",
        model="model {checkpoint} · {dimension} dimensions · {precision} · embedding space {fingerprint}",
    ),
}
