"""`tuwen evaluate`: measure a served checkpoint on benchmarks, to compare the results with a paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from tuwen import Client
from tuwen.zero_shot import OWN_TEMPLATES, Templates
from tuwen_cli.connection import connect
from tuwen_cli.options import (
    JsonOption,
    ModelOption,
    SkipBadRowsOption,
    TimeoutOption,
    UrlOption,
    needs_extra,
    print_json,
    print_table,
    say_skipped_rows,
)
from tuwen_cli.server import ensure_server
from tuwen_files.text_files import read_lines

__all__ = ["evaluate"]

RepositoryOption = Annotated[
    Path | None,
    typer.Option(help="Folder of a built repository to serve during the run. Default: the server at --url is used."),
]
evaluate = typer.Typer(no_args_is_help=True, help="Measure retrieval or zero-shot classification as in the papers.")


@evaluate.command("retrieval")
def retrieval(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a data set, with the files SPLIT_imgs.tsv and SPLIT_texts.jsonl.")
    ],
    split: Annotated[str, typer.Option(help="Name of the split, such as test or valid.")] = "test",
    image_features: Annotated[
        Path | None,
        typer.Option(help="File of image features that Chinese-CLIP's scripts computed. No server is used."),
    ] = None,
    text_features: Annotated[
        Path | None, typer.Option(help="File of text features that Chinese-CLIP's scripts computed. No server is used.")
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            help="Published results to show for comparison, as ARCHITECTURE:BENCHMARK, such as ViT-B-16:flickr30k-cn."
        ),
    ] = None,
    skip_bad_rows: SkipBadRowsOption = False,
    repository: RepositoryOption = None,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Measure the recall from text to image and from image to text, on MUGE, Flickr30K-CN or COCO-CN.

    R@k is the share of queries that have a correct answer among the first k results.
    """
    from tuwen_lab.datasets import RetrievalSplit
    from tuwen_lab.evaluation import embed_split, published_difference, read_features, retrieval_report

    published = _published(compare)
    dataset = RetrievalSplit(folder, split, skip_bad_rows)
    truths = dataset.truths()
    say_skipped_rows(dataset.skipped)
    if image_features and text_features:
        images, texts, card = read_features(image_features, "image"), read_features(text_features, "text"), None
    elif image_features or text_features:
        raise typer.BadParameter("expected both --image-features and --text-features, got only one of them")
    else:
        with _client(repository, url, model, timeout) as clip:
            card = clip.model_card()
            images, texts = embed_split(clip, dataset, progress=True)
    report = retrieval_report(images, texts, truths)
    warning = None
    if compare is not None:
        benchmark = compare.partition(":")[2]
        warning = published_difference(benchmark, split, report.images, report.texts)
    if warning is not None:
        typer.secho(f"warning: {warning}", fg=typer.colors.YELLOW, err=True)
    directions = [("text to image", report.text_to_image), ("image to text", report.image_to_text)]
    if as_json:
        content: dict[str, Any] = {"dataset": str(folder), "split": split, "model_card": card and asdict(card)}
        for name, measured in directions:
            content[name.replace(" ", "_")] = {**asdict(measured), "mean": measured.mean}
        content["skipped_rows"] = len(dataset.skipped)
        content["published"] = published and asdict(published)
        content["not_comparable"] = warning
        print_json({**content, "images": report.images, "texts": report.texts})
        return
    rows = []
    for name, measured in directions:
        numbers = (measured.r1, measured.r5, measured.r10, measured.mean)
        rows.append([name, *[f"{number:.1f}" for number in numbers], str(measured.queries)])
        theirs = published and getattr(published, name.replace(" ", "_"))
        if theirs:
            others = (*theirs, sum(theirs) / 3)
            rows.append([f"  published for {compare}", *[f"{number:.1f}" for number in others], ""])
            gaps = [ours - other for ours, other in zip(numbers, others, strict=True)]
            rows.append(["  difference", *[f"{gap:+.1f}" for gap in gaps], ""])
    title = f"{folder} ({split}): {report.images} images, {report.texts} texts"
    print_table(title, ["%", "R@1", "R@5", "R@10", "mean", "queries"], rows)


@evaluate.command("zero-shot")
def zero_shot(
    folder: Annotated[Path, typer.Argument(help="Folder that contains a folder of images for each class.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File with a label in each line, for the folders in alphabetical order. Default: the folders' names."
        ),
    ] = None,
    templates: Annotated[
        str, typer.Option(help="Built-in templates of the texts for a label: zh, en, or none (the label alone).")
    ] = "zh",
    template_file: Annotated[
        Path | None, typer.Option(help="File with a template in each line: a text with {} in place of the label.")
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Image file to write a plot of the confusion matrix into.")
    ] = None,
    repository: RepositoryOption = None,
    url: UrlOption = "localhost:8001",
    model: ModelOption = "",
    timeout: TimeoutOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy of zero-shot classification on a folder of classes: top 1 and top 5."""
    from tuwen_lab.datasets import ClassFolder
    from tuwen_lab.evaluation import evaluate_zero_shot

    dataset = ClassFolder(folder, labels)
    with _client(repository, url, model, timeout) as clip:
        report = evaluate_zero_shot(clip, dataset, _templates(templates, template_file), progress=True)
    if confusion is not None:
        with needs_extra("evaluate"):
            from tuwen_lab.evaluation.plots import plot_confusion

            plot_confusion(report, confusion)
    numbers = {"top1": report.top1, "top5": report.top5, "mean_per_class": report.mean_per_class}
    if as_json:
        counts = {"images": report.images, "labels": list(report.labels), "confusion": report.confusion.tolist()}
        print_json({"dataset": str(folder), **numbers, **counts})
        return
    row = [str(folder), *[f"{number:.1f}" for number in numbers.values()], str(report.images), str(len(report.labels))]
    print_table("", ["%", "top-1", "top-5", "mean of classes", "images", "classes"], [row])


@contextmanager
def _client(repository: Path | None, url: str, model: str, timeout: float) -> Iterator[Client]:
    """Provide a client of the server at an address, or of a server that is started for the run."""
    if repository is None:
        with connect(url, timeout, model=model) as clip:
            yield clip
        return
    with needs_extra("serve"):
        from tuwen_repository.manifest import Manifest
        from tuwen_server import EmbeddedServer, ServerOptions
    ensure_server()
    with (
        EmbeddedServer(repository, ServerOptions.on_free_ports()) as server,
        Client(server.grpc_url, model=Manifest.read(repository).name, timeout=timeout) as clip,
    ):
        yield clip


def _published(compare: str | None) -> Any:
    from tuwen_lab.evaluation import PUBLISHED, published_recall

    if compare is None:
        return None
    architecture, _, benchmark = compare.partition(":")
    found = published_recall(architecture, benchmark)
    if found is None:
        known = sorted({name for benchmarks in PUBLISHED.values() for name in benchmarks})
        raise typer.BadParameter(
            f"--compare: expected ARCHITECTURE:BENCHMARK, of {', '.join(PUBLISHED)} and {', '.join(known)}, "
            f"got {compare}"
        )
    return found


def _templates(name: str, file: Path | None) -> Templates:
    if file is None:
        if name not in OWN_TEMPLATES:
            raise typer.BadParameter(f"--templates: expected zh, en or none, got {name}")
        return cast(Templates, name)
    return read_lines(file)
