"""Pages of the atlas of optimizers on the site, made from docs/atlas: a table of all, and a page a subject.

A hook of MkDocs (`hooks` in mkdocs.yml). `snakemake atlas` makes what they are made from.
"""

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

FOLDER = Path(__file__).parents[2] / "docs/atlas"
FAMILIES = {"optax": "optax", "torch": "torch.optim", "learned": "learned, shipped"}
SIGNS = {"present": "●", "absent": "○", "undetermined": "?"}
MECHANISMS = ("momentum", "clipping", "schedule", "adaptation", "remainder")
WIDTH, TALL = 72, 28  # pixels of a small picture
Entry = Mapping[str, Any]


def entries(folder: Path) -> dict[str, Entry]:
    """What is stored of each subject, by key, in the order of the list."""
    keys = (folder / "subjects.txt").read_text(encoding="utf-8").split()
    return {key: json.loads((folder / f"{key}.json").read_text(encoding="utf-8")) for key in keys}


def spark(points: Iterable[tuple[float, float]], what: str) -> str:
    """A curve of a few points as a drawing in the page, and the lines at 0; empty without points."""
    points = list(points)
    if len(points) < 2:
        return ""
    (low, high), (least, most) = ((min([*values, 0.0]), max([*values, 0.0])) for values in zip(*points, strict=True))

    def across(x: float) -> float:
        return round(2 + (WIDTH - 4) * (x - low) / ((high - low) or 1.0), 1)

    def down(y: float) -> float:
        return round(TALL - 2 - (TALL - 4) * (y - least) / ((most - least) or 1.0), 1)

    line = " ".join(f"{across(x):g},{down(y):g}" for x, y in points)
    return (
        f'<svg class="spark" viewBox="0 0 {WIDTH} {TALL}" width="{WIDTH}" height="{TALL}" role="img"'
        f' aria-label="{what}"><path d="M0 {down(0.0):g}H{WIDTH}M{across(0.0):g} 0V{TALL}"/>'
        f'<polyline points="{line}"/></svg>'
    )


def badge(verdict: str) -> str:
    """A verdict as a sign with its word."""
    return f'<span class="verdict {verdict}" title="{verdict}">{SIGNS[verdict]}<span> {verdict}</span></span>'


def verdicts(one: Entry) -> dict[str, str]:
    """Verdict by mechanism; empty where the subject was not examined."""
    return {finding["mechanism"]: finding["verdict"] for finding in one.get("findings", [])}


def table_row(one: Entry, relatives: Entry) -> str:
    """A row of the table of all."""
    found, key = verdicts(one), one["key"]
    largest, equal = one.get("largest_stable"), relatives.get("equal", []) + relatives.get("scaled", [])
    sparks = one.get("sparks", {})
    words = " ".join(
        [one["name"], FAMILIES[one["family"]], one["kind"], *(f"{name}:{verdict}" for name, verdict in found.items())]
    )
    cells = [
        f'<td><a href="{key}.html"><code>{html.escape(one["name"])}</code></a></td>',
        f"<td>{FAMILIES[one['family']]}</td>",
        f"<td>{spark(sparks.get('update', []), 'update against gradient')}</td>",
        f"<td>{spark(sparks.get('impulse', []), 'answer to a pulse')}</td>",
    ]
    if found:
        cells += [f'<td data-value="{found[name]}">{badge(found[name])}</td>' for name in MECHANISMS]
    else:
        cells += ["<td>–</td>" for _ in MECHANISMS]
    cells.append(f'<td class="number" data-value="{_sortable(largest)}">{_number(largest)}</td>')
    cells.append(f'<td class="number" data-value="{len(equal)}">{len(equal) or ""}</td>')
    cells.append(f"<td>{html.escape(one['kind'])}</td>")
    return f'<tr data-words="{html.escape(words.lower())}">{"".join(cells)}</tr>'


def _number(value: Any) -> str:
    return "" if value is None else "∞" if value == "inf" else f"{float(value):.3g}"


def _sortable(value: Any) -> str:
    return "" if value is None else "1e999" if value == "inf" else str(value)


def index_page(found: Mapping[str, Entry], index: Entry) -> str:
    """The table of all subjects."""
    examined = [one for one in found.values() if one.get("findings")]
    agree, compared = (sum(one["pairs"][at] for one in examined) for at in (0, 1))
    heads = ["optimizer", "of", "update", "pulse", *MECHANISMS, "largest stable", "equals", "kind"]
    plain = {"update", "pulse"}
    head = "".join(
        f"<th>{name}</th>" if name in plain else f'<th><button type="button">{name}</button></th>' for name in heads
    )
    rows = "\n".join(table_row(one, index["relatives"].get(key, {})) for key, one in found.items())
    return f"""---
hide: [navigation, toc]
---

# Atlas of optimizers

Every transformation of optax {index["versions"]["optax"]}, the component-wise optimizers of `torch.optim`, and the
learned optimizers that are shipped, under the same examination: {len(found)} subjects, {len(examined)} of them
examined, the others with the reason why not. A name opens its page: the verdicts with why, the picture, what is
foretold of it and seen in a run, what it equals, and all readings.

- *update*: the update against the gradient in a state of a run; *pulse*: the answer to one small pulse of gradient.
- {SIGNS["present"]} present, {SIGNS["absent"]} absent, {SIGNS["undetermined"]} undetermined. What each
  [mechanism](../mechanisms/momentum.md) is measured by stands on its page. Of {compared} pairs of readings that imply
  each other, {agree} agree.
- *largest stable*: the largest curvature on which it goes to rest, by its linearization where it rests
  ([foretell](../foretell.md)); for Adam that is where its second moment is empty.
- *equals*: how many others gave the same updates to 1e-6 on three sequences of gradients, up to a constant factor.

<p class="filter"><label>Show <input type="search" data-filters="atlas" placeholder="adam momentum:present"></label>
<output data-counts="atlas"></output></p>

<div class="wide" tabindex="0">
<table class="sortable atlas" id="atlas"><thead><tr>{head}</tr></thead>
<tbody>
{rows}
</tbody></table>
</div>

Classical optimizers have the defaults of their library (a learning rate of 0.01 where one is asked for) and are read on
runs of 40 steps on a quadratic in 5 dimensions, learned ones on their own task and horizon. `snakemake atlas` makes all
of it again.
"""


def subject_page(one: Entry, found: Mapping[str, Entry], relatives: Entry) -> str:
    """The page of one subject."""
    parts = [f"# `{one['name']}`", "", f"{FAMILIES[one['family']]} · {one['kind']} · [all optimizers](index.md)", ""]
    if one["note"]:
        parts += [_sentence(_escaped(one["note"])), ""]
    if one.get("matrix"):
        parts += ["## On a matrix of parameters", "", *(f"- {_escaped(line)}" for line in one["matrix"])]
        parts += ["", "What is read so: [optimizers of matrices](../matrix.md).", ""]
    for finding in one.get("findings", []):
        parts += [f"- **{finding['mechanism']}** {badge(finding['verdict'])}: {_escaped(finding['why'])}"]
    if one.get("caption"):
        parts += [
            "",
            f'<figure class="drawing"><div class="wide" tabindex="0"><a href="{one["key"]}.svg"><img'
            f' src="{one["key"]}.svg" alt="{html.escape(one["name"])} at a glance"></a></div>'
            f"<figcaption>{html.escape(one['caption'])}</figcaption></figure>",
        ]
    if one.get("foretold"):
        parts += ["", "## Foretold, and seen in a run", "", *(f"- {_escaped(line)}" for line in one["foretold"])]
    parts += ["", *_relatives(one, found, relatives)]
    if one.get("findings"):
        parts += ["", "<details markdown><summary>All readings</summary>", ""]
        parts += ["| mechanism | quantity | | value | low | high | unit |", "|---|---|---|---|---|---|---|"]
        for finding in one["findings"]:
            for quantity, number, value, low, high, unit in finding["readings"]:
                numbers = " | ".join(_reading(number) for number in (value, low, high))
                parts.append(f"| {finding['mechanism']} | {quantity} | {number} | {numbers} | {_escaped(unit)} |")
        parts += ["", "</details>"]
    return "\n".join(parts) + "\n"


def _relatives(one: Entry, found: Mapping[str, Entry], relatives: Entry) -> list[str]:
    if not relatives:
        return []
    lines = ["## Relatives", ""]
    for kind, words in (("equal", "The same updates to 1e-6"), ("scaled", "The same updates up to a constant factor")):
        if relatives[kind]:
            lines.append(f"- {words}: {', '.join(_link(found[key]) for key in relatives[kind])}.")
    for key, sine in relatives["near"]:
        mine, other = verdicts(one), verdicts(found[key])
        apart = [f"{name} is {other[name]} there" for name in mine if name in other and mine[name] != other[name]]
        told = "; ".join(apart) if apart else "the same verdicts" if mine and other else "not examined there"
        lines.append(f"- Near: {_link(found[key])}, {sine:.2g} apart; {told}.")
    if len(lines) == 2:
        lines.append("None of the others answers alike.")
    return [*lines, "", "By the updates on three sequences of gradients; apart is the sine of the angle between them."]


def _link(one: Entry) -> str:
    return f"[`{one['name']}`]({one['key']}.md)"


def _reading(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, int | float) else str(value)


def _escaped(text: str) -> str:
    for letter in "\\`*_[]|<>":
        text = text.replace(letter, f"\\{letter}")
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def pages(folder: Path) -> dict[str, str]:
    """Address to content of every page of the atlas; one that says how to make it where it is not there."""
    if not (folder / "index.json").is_file():
        return {"atlas/index.md": "# Atlas of optimizers\n\nNot made yet: `uv run snakemake atlas` makes it.\n"}
    found, index = entries(folder), json.loads((folder / "index.json").read_text(encoding="utf-8"))
    made = {f"atlas/{key}.md": subject_page(one, found, index["relatives"].get(key, {})) for key, one in found.items()}
    return made | {"atlas/index.md": index_page(found, index)}


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """MkDocs calls this once it has listed docs/."""
    from mkdocs.structure.files import File

    for address, content in pages(FOLDER).items():
        files.append(File.generated(config, address, content=content))
    return files
