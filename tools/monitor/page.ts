// The page of tools/monitor.ts: polls the server once a second and shows what is new; keeps polling while there is no
// server. Holds only what is on the screen, so that it can stay open for days.

import { whole } from "../../lib/common/format.ts";
import type { Range } from "../../lib/monitor/thin.ts";
import { element, type Line, LineChart, style, TimeChart } from "./charts.ts";
import type { RunUpdate, Text, Told, Update, UpdateRequest } from "./server.ts";

const INTERVAL = 1000; // ms between polls
const COLORS = 8; // --run-0 and so on, in page.css

const find = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;
const [fromInput, toInput] = [find<HTMLInputElement>("from"), find<HTMLInputElement>("to")];
const smoothingInput = find<HTMLInputElement>("smoothing");
const logInput = find<HTMLInputElement>("log");

let told: Told | undefined; // the last update
let runs: readonly RunUpdate[] = []; // of the update
let version = "";
let range: Range | null = null; // of steps; null: all
let asked = 0; // incremented with each request for other data
let wake = () => {};

// ---- the server --------------------------------------------------------------------------------------------------

async function ask<Answer>(path: string, body: object): Promise<Answer> {
  const response = await fetch(path, { method: "POST", body: JSON.stringify(body) });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

async function follow(): Promise<never> {
  for (;;) {
    const asking = asked;
    try {
      await update();
      showConnection("");
    } catch (error) {
      const away = error instanceof TypeError; // no response at all
      showConnection(
        away ? "No answer from the monitor; is tools/monitor.ts still running? Trying again." : `${error}`,
      );
    }
    if (asking === asked) {
      await new Promise<void>((done) => {
        wake = done;
        setTimeout(done, INTERVAL);
      });
    }
  }
}

async function update(): Promise<void> {
  const asking = asked;
  const smoothing = smoothingInput.valueAsNumber >= 1 ? smoothingInput.valueAsNumber : null;
  const width = Math.min(8000, Math.max(100, find("charts").clientWidth));
  const request: UpdateRequest = { version, range, width, smoothing };
  const answer = await ask<Update>("/update", request);
  if (asking !== asked || !answer.told) return;
  ({ version, told } = { version: answer.version, told: answer.told });
  ({ runs } = told);
  show(told);
  showConnection(""); // samples may take a little longer
  await Promise.all(runs.map(showSamples));
}

/** Request other data now. */
function askAgain(): void {
  asked++;
  version = "";
  wake();
}

function showConnection(problem: string): void {
  const { count, live } = told ?? { count: 0, live: 0 };
  const text = problem || `${count} ${count === 1 ? "run" : "runs"}, ${live === 0 ? "none" : live} in progress`;
  setText(find("connection"), text);
  find("connection").classList.toggle("bad", problem !== "");
}

function setText(node: HTMLElement, text: string): void {
  if (node.textContent !== text) node.textContent = text; // keeps a selection in the text
}

// ---- the runs ----------------------------------------------------------------------------------------------------

/** The elements of each run, by its folder. */
const cards = new Map<string, HTMLElement>();

function show({ name, progress, others }: Told): void {
  document.title = `${name} · nanoGPT`;
  for (const [id, text] of Object.entries({ progress: progress.join(" · "), others })) {
    setText(find(id), text);
    find(id).hidden = text === "";
  }
  const folders = new Set(runs.map(({ folder }) => folder));
  drop(cards, folders, (card) => card.remove());
  drop(samples, folders, ({ box }) => box.remove());
  for (const run of runs) showCard(run);
  arrange(find("runs"), inOrder(cards));
  showSampleList();
  showCharts();
  showSettings();
}

/** Remove what no longer exists. */
function drop<Part>(parts: Map<string, Part>, keep: ReadonlySet<string>, remove: (part: Part) => void): void {
  for (const [key, part] of parts) {
    if (keep.has(key)) continue;
    remove(part);
    parts.delete(key);
  }
}

function inOrder<Part>(parts: ReadonlyMap<string, Part>): Part[] {
  return runs.flatMap(({ folder }) => parts.get(folder) ?? []);
}

/** Order the children of `parent`; those in place stay untouched. */
function arrange(parent: HTMLElement, parts: readonly HTMLElement[]): void {
  for (const [i, part] of parts.entries()) {
    if (parent.children[i] !== part) parent.insertBefore(part, parent.children[i] ?? null);
  }
}

function showCard(run: RunUpdate): void {
  const card = cards.get(run.folder) ?? newCard(run);
  cards.set(run.folder, card);
  const part = (name: string) => card.querySelector<HTMLElement>(`.${name}`)!;
  setText(part("name"), run.label);
  setText(part("state"), run.stateText);
  part("state").dataset.state = run.state;
  setText(part("facts"), run.facts);
  setText(part("progress"), run.progress.join(" · "));
  const bar = card.querySelector("progress")!;
  bar.hidden = run.share === null;
  bar.value = run.share ?? 0;
  const list = part("figures");
  while (list.children.length > run.figures.length) list.lastChild!.remove();
  for (const [j, { label, value }] of run.figures.entries()) {
    if (!list.children[j]) {
      const row = element("div");
      row.append(element("dt"), element("dd"));
      list.append(row);
    }
    const [term, text] = list.children[j]!.children as unknown as [HTMLElement, HTMLElement];
    setText(term, label);
    setText(text, value);
  }
}

function newCard({ place }: RunUpdate): HTMLElement {
  const card = element("article", "card run");
  const head = element("div", "head");
  const swatch = element("span", "swatch bold");
  swatch.style.setProperty("--color", `var(--run-${place % COLORS})`);
  head.append(swatch, element("h2", "name"), element("span", "state"));
  const bar = Object.assign(document.createElement("progress"), { max: 1 });
  bar.setAttribute("aria-label", "Steps made");
  card.append(head, element("p", "facts quiet"), bar, element("p", "progress"), element("dl", "figures"));
  return card;
}

// ---- charts ------------------------------------------------------------------------------------------------------

interface Plan {
  title: string;
  unit?: string;
  wide?: boolean;
  metrics: readonly string[];
}

const MAIN: Plan[] = [
  { title: "Loss", unit: "nats a token", wide: true, metrics: ["loss", "loss/smoothed", "val/loss"] },
  { title: "Learning rate", metrics: ["lr"] },
  { title: "Gradient norm", unit: "before clipping", metrics: ["grad_norm", "grad_norm/smoothed"] },
  { title: "Speed", unit: "tokens a second", metrics: ["tokens_per_s", "tokens_per_s/smoothed"] },
  { title: "Memory", unit: "MB", metrics: ["rss_mb", "gpu_memory_mb"] },
  { title: "Processor", unit: "%, a whole core is 100", metrics: ["cpu_percent"] },
];
const NAMES: Record<string, string> = {
  loss: "each step",
  grad_norm: "each step",
  tokens_per_s: "each step",
  "val/loss": "validation",
  rss_mb: "process",
  gpu_memory_mb: "GPU",
};
const TITLES: Record<string, string> = {
  mfu: "MFU, share of the peak",
  step_ms: "Time of a step, ms",
  update_ratio: "Update to weight",
  grad_norm: "Gradient norm by weight",
  activation: "Activation",
};
const ELSEWHERE = /^(train\/loss|tokens_per_s\/.*)$/; // close to what is shown already

const charts = new Map<string, LineChart>(); // by title
const timeCharts = new Map<string, TimeChart>(); // by title

function showCharts(): void {
  const lastStep = Math.max(1, ...runs.map((run) => run.lastStep));
  const shown = range ? { from: range.from, to: Math.min(range.to, lastStep) } : { from: 0, to: lastStep };
  const main: LineChart[] = [];
  for (const plan of MAIN) {
    const lines = runs.flatMap((run) => linesOf(run, plan.metrics));
    if (lines.length === 0) continue;
    const chart = chartOf(plan.title, find("charts"), plan);
    chart.show(lines, shown, plan.title === "Loss" && logInput.checked);
    main.push(chart);
  }
  const times = new Map<string, TimeChart>();
  for (const { time, label } of runs) {
    const title = runs.length > 1 ? `Time, ${label}` : "Time";
    if (time.iters.length === 0) continue;
    const chart = timeCharts.get(title) ?? new TimeChart(find("charts"), title);
    chart.show(time);
    times.set(title, chart);
    timeCharts.set(title, chart);
  }
  drop(timeCharts, new Set(times.keys()), (chart) => chart.remove());
  arrange(
    find("charts"),
    [...main, ...times.values()].map(({ box }) => box),
  );
  const more = showMore(shown);
  arrange(
    find("more_charts"),
    more.map(({ box }) => box),
  );
  const titles = new Set([...main, ...more].map(({ title }) => title));
  drop(charts, titles, (chart) => chart.remove());
}

/** Lines of one run: its colour is the run's, except validation's if there is only one run. */
function linesOf(run: RunUpdate, metrics: readonly string[]): Line[] {
  return metrics.flatMap((metric) => {
    const points = run.series[metric];
    if (!points) return [];
    const second = runs.length === 1 && ["val/loss", "gpu_memory_mb"].includes(metric) ? 1 : 0;
    const smoothed = metric.endsWith("/smoothed");
    const kind = smoothed ? "smoothed" : (NAMES[metric] ?? metric);
    const hasSmoothed = run.series[`${metric}/smoothed`] !== undefined;
    const look = smoothed ? "bold" : hasSmoothed ? "faint" : metric === "val/loss" ? "marks" : "plain";
    const several = metrics.filter((name) => run.series[name]).length > 1;
    const name = runs.length === 1 ? kind : several ? `${run.label}, ${kind}` : run.label;
    const color = style(`--run-${(run.place + second) % COLORS}`);
    return [{ name, run: run.label, color, points, look }];
  });
}

/** Metrics of callbacks: a chart for each family of a run ("update_ratio/…"), and for each of the other metrics. */
function showMore(shown: Range): LineChart[] {
  const known = new Set(MAIN.flatMap(({ metrics }) => metrics));
  const families = new Map<string, Line[]>();
  for (const run of runs) {
    for (const [metric, points] of Object.entries(run.series)) {
      if (known.has(metric) || ELSEWHERE.test(metric)) continue;
      const [first, ...rest] = metric.split("/") as [string, ...string[]];
      const kind = rest.length > 1 ? `, ${rest.pop()}` : ""; // activation/<layer>/<kind>
      const single = rest.length === 0;
      const title = `${TITLES[first] ?? first}${kind}${single || runs.length === 1 ? "" : `, ${run.label}`}`;
      const name = single ? (runs.length === 1 ? metric : run.label) : rest.join("/");
      const lines = families.get(title) ?? [];
      lines.push({ name, color: single ? style(`--run-${run.place % COLORS}`) : "", points, look: "plain" });
      families.set(title, lines);
    }
  }
  find("more").hidden = families.size === 0;
  return [...families].map(([title, lines]) => {
    const light = style("--family-light");
    const colored = lines.map((line, i) => {
      const hue = 210 + (170 * i) / Math.max(1, lines.length - 1); // from blue over purple to orange
      return { ...line, color: line.color || `hsl(${hue % 360}, 65%, ${light})` };
    });
    const chart = chartOf(title, find("more_charts"), { title });
    chart.show(colored, shown);
    return chart;
  });
}

function chartOf(key: string, parent: HTMLElement, plan: Omit<Plan, "metrics">): LineChart {
  const chart = charts.get(key) ?? new LineChart(parent, plan, setRange);
  charts.set(key, chart);
  return chart;
}

function setRange(wanted: Range | null): void {
  range = wanted;
  fromInput.value = wanted ? String(wanted.from) : "";
  toInput.value = wanted && wanted.to < Number.MAX_SAFE_INTEGER ? String(wanted.to) : "";
  askAgain();
}

// ---- samples -----------------------------------------------------------------------------------------------------

interface Samples {
  box: HTMLElement;
  title: HTMLElement;
  told: string; // the shown RunUpdate.texts
  texts: Text[];
  select: HTMLSelectElement;
  pre: HTMLPreElement;
}

const samples = new Map<string, Samples>(); // by the run's folder

function showSampleList(): void {
  const boxes = inOrder(samples).map(({ box }) => box);
  arrange(find("sample_list"), boxes);
  find("samples").hidden = boxes.length === 0;
}

async function showSamples({ folder, label, texts }: RunUpdate): Promise<void> {
  if (texts === "" && !samples.has(folder)) return;
  const shown = samples.get(folder) ?? newSamples(folder, label);
  shown.title.hidden = runs.length === 1;
  if (texts === shown.told) return;
  const chosen = shown.texts[Number(shown.select.value)]; // the newest is followed, another selection stays
  const stay = chosen !== undefined && chosen !== shown.texts.at(-1);
  shown.texts = await ask<Text[]>("/texts", { folder });
  shown.told = texts;
  const options = shown.texts.map(({ iter, name }, i) => {
    return Object.assign(element("option", "", `${name} after ${whole(iter)} steps`), { value: String(i) });
  });
  shown.select.replaceChildren(...options.reverse());
  const again = shown.texts.findIndex(({ iter, name }) => iter === chosen?.iter && name === chosen.name);
  shown.select.value = String(stay && again >= 0 ? again : shown.texts.length - 1);
  showText(shown);
  showSampleList();
}

function newSamples(folder: string, label: string): Samples {
  const box = element("div", "card");
  const [title, select, pre] = [element("h3", "", label), element("select"), element("pre")];
  select.setAttribute("aria-label", `Sample of ${label}`);
  pre.tabIndex = 0; // so that it can be scrolled with keys
  box.append(title, select, pre);
  const made: Samples = { box, title, told: "", texts: [], select, pre };
  select.addEventListener("change", () => showText(made));
  samples.set(folder, made);
  return made;
}

function showText({ texts, select, pre }: Samples): void {
  setText(pre, texts[Number(select.value)]?.text ?? "");
}

// ---- settings ----------------------------------------------------------------------------------------------------

let settingsShown = "";

function showSettings(): void {
  const all = runs.length === 1 || find<HTMLInputElement>("all").checked;
  const key = JSON.stringify([all, runs.map(({ label, config }) => [label, config])]);
  if (key === settingsShown) return;
  if (settingsShown === "") find<HTMLDetailsElement>("settings").open = runs.length > 1;
  settingsShown = key;
  find("all_label").hidden = runs.length === 1;
  const told = (value: unknown) =>
    value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value);
  const keys = [...new Set(runs.flatMap(({ config }) => Object.keys(config)))];
  const rows = keys
    .map((name) => ({ name, values: runs.map(({ config }) => told(config[name])) }))
    .filter(({ values }) => all || values.some((value) => value !== values[0]));
  const head = element("tr");
  head.append(...["setting", ...runs.map(({ label }) => label)].map((text) => header(text, "col")));
  const body = rows.map(({ name, values }) => {
    const row = element("tr", values.some((value) => value !== values[0]) ? "different" : "");
    row.append(header(name, "row"), ...values.map((value) => element("td", "", value)));
    return row;
  });
  find("table").replaceChildren(head, ...body);
  if (rows.length === 0) find("table").replaceChildren(element("caption", "quiet", "All settings are equal."));
}

function header(text: string, scope: "col" | "row"): HTMLTableCellElement {
  return Object.assign(element("th", "", text), { scope });
}

// ---- user input -------------------------------------------------------------------------------------------------

function readRange(): void {
  const [from, to] = [fromInput, toInput].map(({ valueAsNumber }) => valueAsNumber) as [number, number];
  const [first, last] = [Math.max(0, from || 0), Number.isNaN(to) ? Number.MAX_SAFE_INTEGER : to];
  toInput.setCustomValidity(last > first ? "" : "beyond the first step");
  const all = Number.isNaN(from) && Number.isNaN(to);
  if (toInput.reportValidity()) setRange(all ? null : { from: first, to: last });
}

for (const input of [fromInput, toInput]) input.addEventListener("change", readRange);
find("view").addEventListener("submit", (event) => event.preventDefault());
find("whole").addEventListener("click", () => {
  toInput.setCustomValidity("");
  setRange(null);
});
smoothingInput.addEventListener("change", askAgain);
logInput.addEventListener("change", showCharts);
find("all").addEventListener("change", showSettings);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showCharts);

let resizing: ReturnType<typeof setTimeout> | undefined;
window.addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(askAgain, 300); // another width needs other points
});

void follow();
