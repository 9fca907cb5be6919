"""What runs in the browser and is ours. It stands in every page, for a page runs nothing else."""

from __future__ import annotations

# Parts of the page library that cannot be named from Python get the name of what holds them.
_NAMES = """
new MutationObserver(() => {
  for (const holder of document.querySelectorAll("[data-label]")) {
    const parts = ".cm-content, .q-uploader__input, .q-uploader a.q-btn";
    for (const part of holder.querySelectorAll(parts)) {
      if (!part.ariaLabel) part.ariaLabel = holder.dataset.label;
    }
  }
}).observe(document.body, {childList: true, subtree: true});
"""

# A web socket that is refused does not say why: after a restart nobody is signed in any more.
_RETURN = """
const wait = setInterval(() => {
  if (!window.socket) return;
  clearInterval(wait);
  window.socket.on("connect_error", async () => {
    const told = await fetch(location.href, {method: "HEAD"}).catch(() => null);
    if (told?.status === 401) location.reload();
  });
}, 200);
"""

# The browser keeps what its charts show, so that only what is new is sent: ten minutes of a few
# deployments are half a megabyte. Points of lines that are not named any more are forgotten.
_CHARTS = """
window.extendCharts = (charts, most) => {
  const kept = window.keptPoints ??= {};
  for (const [id, {lines, marks}] of Object.entries(charts)) {
    const points = {};
    for (const [name, more] of Object.entries(lines)) {
      points[name] = [...(kept[id]?.[name] ?? []), ...more].slice(-most);
    }
    kept[id] = points;
    const series = Object.entries(points).map(([name, data]) => ({
      name, data, type: "line", showSymbol: false,
    }));
    if (marks && series.length) {
      const tooltip = {trigger: "item", formatter: "{b}"};
      series[0].markLine = {symbol: "none", data: marks, tooltip};
    }
    const shown = {series, legend: {show: series.length > 0}};
    getElement(Number(id))?.chart?.setOption(shown, {replaceMerge: ["series"]});
  }
};
"""

ALL = _NAMES + _RETURN + _CHARTS
