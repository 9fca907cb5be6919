"""How all pages look, beside what the page library's own components bring along."""

from __future__ import annotations

ALL = """
:root { --lane: #00000010 }
.body--dark { --lane: #ffffff14 }
.nicegui-content { padding: 0 }
.page { max-width: 82rem; margin: 0 auto; padding: 1.5rem 1.5rem 3rem; width: 100%;
  display: flex; flex-direction: column; align-items: flex-start; gap: 1rem }
.page > *, .q-tab-panel > * { max-width: 100% }
.page > h2, .q-tab-panel > h2 { margin-top: .75rem !important }
.q-tab-panels { background: none }
.q-tab-panel { padding: 1rem 0 0 }
.mono, .mono textarea { font-family: ui-monospace, monospace; font-size: .85rem }
.figure { white-space: nowrap; font-size: 1.35rem; font-weight: 600; line-height: 1.2 }
.quiet { opacity: .72 }
.two { display: grid; gap: 1.5rem; width: 100%;
  grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)) }
.pair { display: grid; gap: 1rem; grid-template-columns: 1fr 1fr }
.two > *, .many > *, .pair > * { min-width: 0 }
.q-tabs, .nicegui-column { max-width: 100% }
.many { display: grid; gap: 1rem; width: 100%;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)) }
.body--dark .cm-editor { filter: invert(.88) hue-rotate(180deg) }
.body--dark main, .body--dark .q-dialog { --q-primary: #8ab4f8; --q-negative: #ffb4ab }
.body--dark .bg-primary, .body--dark .q-uploader { --q-primary: #1a56a8 }
.body--dark .bg-negative { --q-negative: #a5110a }
.body--light a.nicegui-link, .body--light td a { color: #1a56a8 }
.body--dark a.nicegui-link, .body--dark td a { color: #8ab4f8 }
.q-header a.nicegui-link { color: #fff !important }
.skip { position: absolute; left: -99rem }
.skip:focus { left: 1rem; z-index: 1; background: #0d3a75; padding: .5rem 1rem }
main:focus { outline: none }
.q-loading-bar { display: none }
.lane { background: var(--lane); border-radius: .6rem; padding: .8rem 1rem; width: 100% }
.mid { align-items: center }
.tight { gap: 0 }
.close { gap: .5rem }
.spread { gap: 1rem 2rem }
.lanes { gap: 1rem }
.crumb { font-size: 1.4rem }
.wrap { white-space: pre-wrap; overflow-wrap: anywhere }
.cells { display: grid; gap: 2px; grid-template-columns: repeat(auto-fill, minmax(.9rem, 1fr)) }
.cells i, .legend i { display: block; height: .9rem; min-width: .9rem; border-radius: 2px;
  --rest: #8886; background: linear-gradient(to top, #2e7d4f var(--d), var(--rest) var(--d)) }
.cells i { cursor: pointer }
.cells .failed, .legend .failed { --rest: #c62828 }
.cells .retrying, .legend .retrying { --rest: #e08600 }
.cells .running, .legend .running { --rest: #3b82d6 }
.cells .again { outline: 2px dotted #e08600; outline-offset: -2px }
.legend i.failed, .legend i.retrying, .legend i.running, .legend i.waiting {
  background: var(--rest) }
.span { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
  border-radius: 3px; padding: 0 .3rem; font-size: .75rem; margin: 1px 0 }
.q-table td { white-space: normal }
.q-table__bottom--nodata .q-icon { display: none }
nav, .q-header form { display: flex; flex-wrap: nowrap; gap: .5rem }
@media (max-width: 599px) {
  .page { padding: 1rem 1rem 2rem }
  nav, .q-header form { gap: .1rem }
  .spread { gap: .75rem 1.25rem }
  .q-table td { min-width: 5.5rem }
  nav .q-btn .block { font-size: 0 }
  nav .q-icon.on-left { margin-right: 0 }
  .q-header { gap: .2rem }
}
.cm-editor:focus-within, a:focus-visible, button:focus-visible,
[tabindex]:not(input, textarea):focus-visible {
  box-shadow: 0 0 0 3px #4c9bff; border-radius: 3px } /* outlines are the library's to forbid */
.q-header :focus-visible { box-shadow: 0 0 0 3px #fff }
"""
