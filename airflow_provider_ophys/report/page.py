"""The page of a report: self-contained, without scripts, and every text of the file escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape

from airflow_provider_ophys.report.facts import Rows
from airflow_provider_ophys.report.survey import Seen

MOST_MARKS_LISTED = 50

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.2rem auto; max-width: 1440px; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1rem; margin: 1.2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .2rem 0; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; margin-top: .8rem; }
ul { list-style: none; padding: 0; margin: .6rem 0; }
li { margin: .15rem 0; padding-left: .6rem; border-left: 5px solid; }
li.leak { border-color: #E69F00; } li.saturated { border-color: #D55E00; } li.dropped { border-color: #CC79A7; }
li.bleaching { border-color: #0072B2; } li.fine { border-color: #009E73; } li.left { border-color: #999; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .15rem .5rem .15rem 0; border-bottom: 1px solid #8884; }
th { font-weight: normal; opacity: .7; white-space: nowrap; } td { overflow-wrap: anywhere; }
"""
# Also for those who open the file by itself: nothing of it may run or load anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def make_page(seen: Seen, facts: Mapping[str, Rows], png: bytes, *, title: str, subtitle: str) -> str:
    """
    Write the page.

    :param facts: Rows of each group, from :func:`airflow_provider_ophys.report.facts.gather_facts`.
    :param png: The picture, which becomes a part of the page.
    :param title: Plain text, like everything else here.
    """
    groups = "\n".join(_group(name, rows) for name, rows in facts.items())
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
{_remarks(seen)}
</ul>
<img alt="The recording: images, intensity over time, pixel values, ROIs and traces"
 src="data:image/png;base64,{b64encode(png).decode()}">
<div class="facts">
{groups}
</div>
</body>
</html>
"""


def _remarks(seen: Seen) -> str:
    lines = []
    for movie in seen.movies:
        for mark in movie.marks[:MOST_MARKS_LISTED]:
            when = f"{mark.start:.2f} s" if mark.start == mark.stop else f"{mark.start:.2f} to {mark.stop:.2f} s"
            lines.append(
                _remark(mark.kind.split()[-1], f"{movie.movie.name}: {mark.kind} at {when}: {mark.detail}")
            )
        more = len(movie.marks) - MOST_MARKS_LISTED
        if more > 0:
            lines.append(_remark("left", f"{movie.movie.name}: {more} more"))
        if not movie.marks:
            seen_of = "" if movie.survey.is_whole else " in the frames that were looked at"
            lines.append(_remark("fine", f"{movie.movie.name}: nothing remarkable{seen_of}"))
    lines += [_remark("left", f"{path} is not shown: {reason}") for path, reason in seen.left_out.items()]
    return "\n".join(lines)


def _remark(kind: str, text: str) -> str:
    return f'<li class="{kind}">{escape(text)}</li>'


def _group(name: str, rows: Rows) -> str:
    cells = "\n".join(f"<tr><th>{escape(field)}</th><td>{escape(text)}</td></tr>" for field, text in rows)
    return f"<section><h2>{escape(name)}</h2><table>\n{cells}\n</table></section>"
