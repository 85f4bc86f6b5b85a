"""The page of a report: self-contained, without scripts, and every text of the file escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape

from airflow_provider_ophys.report.facts import Rows
from airflow_provider_ophys.report.survey import Seen

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.2rem auto; max-width: 1440px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .2rem 0; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; margin-top: .8rem; }
ul { list-style: none; padding: 0; margin: .6rem 0; }
li { margin: .15rem 0; padding-left: .6rem; border-left: 5px solid; overflow-wrap: anywhere; }
li.concern { border-color: #D55E00; font-weight: 600; } li.mark { border-color: #E69F00; }
li.checked { border-color: #009E73; } li.left { border-color: #999; }
.enlarging input { position: absolute; opacity: 0; } .enlarging img { cursor: zoom-in; }
.enlarging input:focus-visible + img { outline: 3px solid #0072B2; }
.enlarging input:checked + img { position: fixed; inset: 0; width: 100vw; height: 100vh; margin: 0; z-index: 9;
 object-fit: contain; background: #111; cursor: zoom-out; max-width: none; border-radius: 0; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .8rem; }
.images figure { margin: 0; } .images img { width: 100%; image-rendering: pixelated; }
figcaption { font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .15rem .5rem .15rem 0; border-bottom: 1px solid #8884; }
th { font-weight: normal; opacity: .7; white-space: nowrap; } td { overflow-wrap: anywhere; }
"""
# Also for those who open the file by itself: nothing of it may run or load anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def make_page(
    seen: Seen,
    facts: Mapping[str, Rows],
    png: bytes,
    *,
    title: str,
    subtitle: str,
    concerns: Sequence[str] = (),
    pictures: Mapping[str, bytes] | None = None,
) -> str:
    """
    Write the page.

    :param facts: Rows of each group, from :func:`airflow_provider_ophys.report.facts.gather_facts`.
    :param png: The picture, which becomes a part of the page.
    :param pictures: Images by name, as PNG, pixel by pixel; a click on one of them enlarges it.
    :param concerns: What a person should know before anything else.
    :param title: Plain text, like everything else here.
    """
    pictures = pictures or {}
    groups = "\n".join(_group(name, rows) for name, rows in facts.items())
    images = "\n".join(
        f"<figure>{_enlarging(name, picture)}<figcaption>{escape(name)}</figcaption></figure>"
        for name, picture in pictures.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p>{escape(subtitle)}</p>
<ul>
{_remarks(seen, concerns)}
</ul>
{_enlarging("The recording: images, intensity over time, pixel values, ROIs and traces", png)}
<div class="images">
{images}
</div>
<div class="facts">
{groups}
</div>
</body>
</html>
"""


def _enlarging(name: str, png: bytes) -> str:
    """Return a picture that fills the window when it is clicked: a box that is ticked, and no script."""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return (
        f'<label class="enlarging"><input type="checkbox" aria-label="Enlarge: {escape(name)}">'
        f'<img alt="{escape(name)}" src="{source}"></label>'
    )


def _remarks(seen: Seen, concerns: Sequence[str]) -> str:
    lines = [_remark("concern", concern) for concern in concerns]
    for movie in seen.movies:
        found, name = movie.found, movie.movie.name
        for mark in found.marks:
            when = (
                f"at {mark.start:.2f} s" if mark.start == mark.stop else f"{mark.start:.2f} to {mark.stop:.2f} s"
            )
            times = f"{mark.count} times, " if mark.count > 1 else ""
            lines.append(_remark("mark", f"{name}: {mark.kind}, {times}{when}: {mark.detail}"))
        without = [kind for kind in found.checked if kind not in {mark.kind for mark in found.marks}]
        seen_of = "every frame" if movie.survey.is_whole else f"{len(movie.times)} frames"
        checked = f"{name}: checked in {seen_of}, and not found: {', '.join(without)}"
        left = "; ".join(f"{kind} ({why})" for kind, why in found.not_checked.items())
        lines.append(_remark("checked", f"{checked}. Not checked: {left}." if left else f"{checked}."))
    lines += [_remark("left", f"{path} is not shown: {reason}") for path, reason in seen.left_out.items()]
    return "\n".join(lines)


def _remark(kind: str, text: str) -> str:
    return f'<li class="{kind}">{escape(text)}</li>'


def _group(name: str, rows: Rows) -> str:
    cells = "\n".join(f"<tr><th>{escape(field)}</th><td>{escape(text)}</td></tr>" for field, text in rows)
    return f"<section><h2>{escape(name)}</h2><table>\n{cells}\n</table></section>"
