"""The page's style sheet: one column, the system's fonts, light and dark, phone and paper."""

from __future__ import annotations

from isoflop.report.style import variables

RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--paper);color:var(--ink);
 font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
 font-variant-numeric:tabular-nums}
main{max-width:50rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:clamp(1.7rem,5.4vw,2.6rem);line-height:1.15;font-weight:650;letter-spacing:-.02em;margin:.2rem 0 1.4rem}
h2{font-size:1.2rem;font-weight:650;letter-spacing:-.01em;margin:3.4rem 0 .9rem}
p{margin:.6rem 0}
.eyebrow,.small,figcaption,.who,dt{color:var(--soft)}
.eyebrow{font-size:.85rem;margin:0}
.small{font-size:.875rem}
.good{color:var(--good)}.bad{color:var(--accent)}
.verdict{display:flex;gap:1rem 2.8rem;margin:0 0 1.6rem}
.verdict div,.facts div{display:flex;flex-direction:column}
dl{margin:0}dd{margin:0}dt{font-size:.85rem}
.verdict dd{font-size:clamp(1.5rem,6vw,2.3rem);font-weight:600;line-height:1.2;letter-spacing:-.02em}
.verdict small,.facts small{font-size:.85rem;font-weight:400;letter-spacing:0;color:var(--soft);display:block}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(8.6rem,1fr));gap:1.1rem 1.4rem;
 margin:2.2rem 0 0;padding:1.2rem 0;border:solid var(--faint);border-width:1px 0}
.facts dd{font-size:1.25rem;font-weight:600;line-height:1.3}
.line{margin:1.2rem 0 1rem;font-size:.85rem}
.row{display:flex;align-items:stretch;height:1.9rem}
.row .who{flex:0 0 6.2rem;align-self:center}
.row.main .who{color:var(--ink);font-weight:600}
.track{position:relative;flex:1}
.track>*{position:absolute}
.bar{top:50%;height:.4rem;margin-top:-.2rem;border-radius:.2rem;background:var(--second);opacity:.45}
.main .bar{height:.9rem;margin-top:-.45rem;border-radius:.2rem;background:var(--ink);opacity:.28}
.mid{top:50%;width:2px;height:.8rem;margin:-.4rem 0 0 -1px;background:var(--second)}
.main .mid{height:1.3rem;margin-top:-.65rem;background:var(--ink)}
.at{top:0;bottom:0;width:2px;margin-left:-1px;background:var(--accent)}
.flag{bottom:.1rem;transform:translateX(-50%);color:var(--accent);white-space:nowrap}
.axis{height:1.6rem;color:var(--soft)}
.axis .track{border-top:1px solid var(--faint)}
.axis .track span{top:.15rem;transform:translateX(-50%)}
.notes{border-left:3px solid var(--faint);padding:.1rem 0 .1rem 1rem;margin:1.6rem 0 0;font-size:.92rem}
.notes ul,.notes p{margin:.3rem 0}.notes ul{padding-left:1.1rem}
figure{margin:1.2rem 0}
.plots{display:grid;gap:1rem}
.plots.n2{grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr))}
.plot{display:block;width:100%;height:auto;max-width:44rem;overflow:visible}
.plot text{paint-order:stroke;stroke:var(--paper);stroke-width:2px;stroke-linejoin:round}
sup{line-height:0}
figcaption{font-size:.875rem;margin-top:.6rem;max-width:44rem}
figcaption b{color:var(--ink);font-weight:600}
.key{display:inline-block;width:.65em;height:.65em;border-radius:50%;margin-right:.4em}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.875rem;margin:.6rem 0;width:100%}
th{font-weight:500;color:var(--soft);vertical-align:bottom}
th,td{text-align:right;padding:.32rem .55rem;border-bottom:1px solid var(--faint);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
.named td:first-child{white-space:normal;min-width:9rem}
pre{font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,"Liberation Mono",monospace;white-space:pre-wrap;
 overflow-wrap:anywhere;overflow:hidden;margin:0;tab-size:4;unicode-bidi:isolate}
.sample{border-left:3px solid var(--faint);padding:.1rem 0 .1rem 1rem;margin:0 0 1.3rem}
.sample b{color:var(--accent);font-weight:600}
details{margin:1rem 0}summary{cursor:pointer}
details pre{margin:.8rem 0}
footer{margin-top:4rem;font-size:.8rem;color:var(--soft)}
@media(max-width:30rem){main{padding:1.5rem 1rem 3rem}.row .who{flex-basis:5.2rem}.verdict{gap:1rem}
 .n1 .plot text{font-size:9px!important}}
@media print{html{font-size:75%}main{max-width:none;padding:0}figure,table,.sample{break-inside:avoid}
 .scroll{overflow:visible}.n1 .plot{max-width:36rem}
 h2{break-after:avoid;margin-top:1.8rem}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def stylesheet(budgets: int) -> str:
    """The whole style sheet of a page whose sweep has this many budgets. Paper is always light."""
    light = variables(budgets, "light") + "--good:#1a7f4b;"
    dark = variables(budgets, "dark") + "--good:#6fce98;"
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{RULES}"
    )
