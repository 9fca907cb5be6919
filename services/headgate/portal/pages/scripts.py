"""What runs in the browser and is ours. It stands in every page, for a page runs nothing else."""

from __future__ import annotations

# The page library makes what is drawn in a table's cells anew at each change of the page; what had
# the focus there, or opened a dialog from there, would lose it.
_FOCUS = """
let focused = null, opener = null;
document.addEventListener("focusin", ({target}) => {
  focused = target;
  if (!document.querySelector("[role=dialog]")) opener = target;
});
document.addEventListener("focusout", ({target}) => setTimeout(() => {
  const isLeft = focused === target && target.isConnected;
  if (isLeft && !target.closest("[role=dialog]")) focused = null;
}));
const keepFocus = () => {
  if (!focused || focused.isConnected || document.activeElement !== document.body) return;
  const gone = focused.closest("[role=dialog]") ? opener : focused;
  const same = (each) => each.ariaLabel === gone.ariaLabel && each.href === gone.href
    && each.textContent === gone.textContent;
  (gone.isConnected ? gone : [...document.querySelectorAll(gone.tagName)].find(same))?.focus();
};
"""

# Parts of the page library that cannot be named from Python get the name of what holds them.
_NAMES = """
new MutationObserver(() => {
  keepFocus();
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
const grey = {color: "#888"};  // it can be read on light and on dark
const chartOf = (id) => getElement(Number(id))?.chart;
const showChart = (id, series) => {
  const chart = chartOf(id);
  chart?.setOption({
    animation: false,
    useUTC: true,
    title: {
      text: chart.getDom().dataset.title, left: 0, top: 2, padding: [6, 0],
      textStyle: {fontSize: 14, ...grey},
    },
    tooltip: {trigger: "axis", renderMode: "richText"},
    legend: {left: 0, top: 28, type: "scroll", textStyle: grey, show: series.length > 0},
    grid: {left: 48, right: 16, top: 66, bottom: 28},
    xAxis: {
      type: "time",
      splitLine: {show: false},
      axisLabel: {hideOverlap: true, formatter: "{HH}:{mm}:{ss}", ...grey},
    },
    yAxis: {type: "value", min: 0, axisLabel: grey, splitLine: {lineStyle: {opacity: 0.25}}},
    series,
  }, {replaceMerge: ["series"]});
};
const asLine = ([name, data]) => ({name, data, type: "line", showSymbol: false});
const whole = {};  // for charts that are made anew when their tab is opened again
window.drawCharts = (charts) => {
  for (const [id, {lines, isStacked}] of Object.entries(charts)) {
    const more = isStacked ? {type: "bar", stack: "all", barMaxWidth: 12} : {};
    whole[id] = Object.entries(lines).map((line) => ({...asLine(line), ...more}));
    showChart(id, whole[id]);
  }
};
const kept = {};
window.extendCharts = (charts, most) => {
  for (const {id} of document.querySelectorAll("[data-title]")) {
    const number = id.slice(1);
    if (!chartOf(number)?.getOption()?.title?.length) showChart(number, whole[number] ?? []);
  }
  for (const [id, {lines, marks}] of Object.entries(charts)) {
    const points = {};
    for (const [name, more] of Object.entries(lines)) {
      points[name] = [...(kept[id]?.[name] ?? []), ...more].slice(-most);
    }
    kept[id] = points;
    const series = Object.entries(points).map(asLine);
    if (marks && series.length) {
      const tooltip = {trigger: "item", formatter: "{b}"};
      series[0].markLine = {symbol: "none", data: marks, tooltip};
    }
    showChart(id, series);
  }
};
"""

ALL = f"(() => {{{_FOCUS}{_NAMES}{_RETURN}{_CHARTS}}})();"
