// Three figures by Observable Plot, drawn at build time without a browser: node plot.mjs DATA.json FOLDER MODULES
// Run by benchmarks/drawing_libraries.py.
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [data, folder, modules] = process.argv.slice(2);
const require = createRequire(`${modules}/x.js`);
const Plot = await import(pathToFileURL(`${modules}/@observablehq/plot/src/index.js`));
const { JSDOM } = require("jsdom");
const { forest, heat, curves } = JSON.parse(readFileSync(data, "utf-8"));
const document = new JSDOM("").window.document;

const figures = {
  forest: () => {
    const x = { domain: [-2, 3], label: "units from the threshold", clamp: true };
    const rows = { label: null, domain: forest.map((row) => row.name) };
    return {
      width: 720, height: 30 + 20 * forest.length, marginLeft: 300, x, y: rows,
      marks: [
        Plot.rectY([0], { x1: 0, x2: 3, fill: "currentColor", fillOpacity: 0.1 }),
        Plot.ruleX([0]),
        Plot.ruleY(forest, { y: "name", x1: "lower", x2: "upper" }),
        Plot.dot(forest, { y: "name", x: "estimate", fill: "currentColor" }),
      ],
    };
  },
  heat: () => ({
    width: 720, height: 220, marginLeft: 110, x: { label: "layer" }, y: { label: null },
    color: { scheme: "RdBu", pivot: 0, legend: false },
    marks: [Plot.cell(heat, { x: "layer", y: "component", fill: "value" })],
  }),
  curves: () => ({
    width: 720, height: 280, y: { grid: true, label: "recovered share" }, x: { label: "layer" },
    marks: [
      Plot.areaY(curves, { x: "layer", y1: "lower", y2: "upper", z: "series", fill: "series", fillOpacity: 0.2 }),
      Plot.lineY(curves, { x: "layer", y: "value", z: "series", stroke: "series" }),
      Plot.text(curves, Plot.selectLast({ x: "layer", y: "value", z: "series", text: "series", textAnchor: "end", dy: -8 })),
    ],
  }),
};

const seconds = {};
for (const [name, options] of Object.entries(figures)) {
  const started = performance.now();
  const drawn = Plot.plot({ ...options(), document }).outerHTML;
  seconds[name] = (performance.now() - started) / 1000;
  writeFileSync(`${folder}/${name}.svg`, drawn);
}
console.log(JSON.stringify(seconds));
