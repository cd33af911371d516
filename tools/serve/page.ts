// The page of tools/serve.ts: gets logits from the model in its worker (decoder.ts), samples like sample.ts, and shows the text and, for one
// of its tokens, the alternatives. The same seed gives the same text as sample.ts. Left out: several samples at once.

import { keyOf, uniform } from "../../lib/common/rng.ts";
import { TokenSampler } from "../../lib/decoding/token_sampler.ts";
import type { Reply, Request } from "./decoder.ts";
import { type Likely, likeliest } from "./distribution.ts";
import type { ModelInfo } from "./server.ts";

const BARS = 10;

const find = <E extends HTMLElement = HTMLElement>(id: string) => document.getElementById(id) as E;
const numberOf = (id: string) => find<HTMLInputElement>(id).valueAsNumber;
const [form, output, bars] = [find<HTMLFormElement>("form"), find("tokens"), find("bars")];
const [generateButton, stopButton] = [find<HTMLButtonElement>("generate"), find<HTMLButtonElement>("stop")];

interface Decoded {
  pieces: string[]; // the text that each token adds
  rest: string; // of an incomplete character
}

let start = ""; // the default prompt
let prompt = "";
let tokens: number[] = [];
let choices: Likely[][] = []; // for each token
let spans: HTMLSpanElement[] = []; // for each shown token
let selected = -1;
let [running, stopped] = [false, false];

// ---- the model ---------------------------------------------------------------------------------------------------

const worker = new Worker("/decoder.js", { type: "module" });

/** One request at a time. */
function ask(request: Request): Promise<Exclude<Reply, { error: string } | { loaded: number }>> {
  return new Promise((done, fail) => {
    worker.onmessage = ({ data: reply }: MessageEvent<Reply>) => {
      if ("error" in reply) fail(new Error(reply.error));
      else if ("loaded" in reply) showLoaded(reply.loaded, reply.total);
      else done(reply);
    };
    worker.onerror = ({ message }) => fail(new Error(message || "the model's worker can't be started"));
    worker.postMessage(request);
  });
}

async function askLogits(request: Request): Promise<Float32Array> {
  const reply = await ask(request);
  if (!("logits" in reply)) throw new Error("internal: no logits");
  return reply.logits;
}

async function load(): Promise<void> {
  const { source, config, parameters, ...info }: ModelInfo = await (await request("/model.json")).json();
  start = info.start;
  if (start !== "\n") find<HTMLTextAreaElement>("prompt").placeholder = `empty: begins with ${visible(start)}`;
  const { n_layer, n_head, n_embd, block_size } = config;
  const size = `${n_layer} layers, ${n_head} heads, ${n_embd} wide, block ${block_size}`;
  document.title = `${source} · nanoGPT`;
  find("source").textContent = source;
  find("model").textContent = `${size}, ${inMillions(parameters)} parameters.`;
  const reply = await ask({ kind: "load", config, backend: new URLSearchParams(location.search).get("backend") });
  if ("backend" in reply) find("backend").textContent = `Runs here in the browser: ${reply.backend}.`;
  find("loading").hidden = true;
  generateButton.disabled = false;
}

function showLoaded(loaded: number, total: number): void {
  find<HTMLProgressElement>("progress").value = loaded / total;
  const part = loaded === total ? "starting" : `${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
  find("loaded").textContent = part;
}

const inMillions = (count: number) =>
  count < 1e6 ? count.toLocaleString("en-US") : `${(count / 1e6).toFixed(count < 1e7 ? 2 : 1)} M`;

// ---- the server --------------------------------------------------------------------------------------------------

async function request(path: string, body?: object): Promise<Response> {
  const options = body && { method: "POST", body: JSON.stringify(body) };
  const response = await fetch(path, options).catch(() => {
    throw new Error("the server doesn't answer; is tools/serve.ts still running?");
  });
  if (!response.ok) throw new Error(await response.text());
  return response;
}

async function encode(text: string): Promise<number[]> {
  return (await (await request("/encode", { text })).json()).tokens;
}

async function decode(sequences: readonly number[][]): Promise<Decoded[]> {
  return (await request("/decode", { sequences })).json();
}

// ---- text --------------------------------------------------------------------------------------------------------

async function generate(): Promise<void> {
  const [temperature, top_k, seed] = [numberOf("temperature"), numberOf("top_k"), numberOf("seed")];
  const count = numberOf("max_new_tokens");
  prompt = find<HTMLTextAreaElement>("prompt").value || start;
  clear();
  const ids = await encode(prompt);
  const key = keyOf(seed, "sample", 0);
  let logits = await askLogits({ kind: "start", prompt: ids });
  const sampler = new TokenSampler(logits.length, { temperature, top_k });
  const begin = performance.now();
  while (!stopped) {
    const { token } = sampler.sample(logits, [], uniform(key, tokens.length));
    tokens.push(token);
    choices.push(likeliest(logits, BARS, token));
    void showText().catch(showError);
    if (tokens.length > 1) showSpeed(begin);
    if (tokens.length === count) break;
    logits = await askLogits({ kind: "next", token });
  }
  await showText(true);
}

/** The first token is not counted, as it includes the prefill. */
function showSpeed(begin: number): void {
  const rate = (1000 * (tokens.length - 1)) / (performance.now() - begin);
  find("speed").textContent = `${tokens.length} tokens, ${rate.toFixed(1)} tokens/s`;
}

function clear(): void {
  [tokens, choices, spans, selected] = [[], [], [], -1];
  find("given").textContent = prompt;
  for (const element of [output, bars, find("error"), find("speed")]) element.replaceChildren();
  find("place").textContent = "Click a token of the text to see what else was likely there.";
  find("panel").classList.remove("filled");
}

let showing: Promise<void> | undefined;

/** Show the tokens so far. Their text comes from the server: the last call covers all tokens sampled while it answered. */
async function showText(atEnd = false): Promise<void> {
  if (showing && !atEnd) return;
  await showing;
  showing = addSpans(atEnd).finally(() => {
    showing = undefined;
  });
  await showing;
}

async function addSpans(atEnd: boolean): Promise<void> {
  const [decoded] = await decode([tokens]);
  const { pieces, rest } = decoded!;
  for (let i = spans.length; i < pieces.length; i++) {
    const span = document.createElement("span");
    span.dataset.index = String(i);
    span.role = "option";
    span.textContent = pieces[i]!;
    spans.push(span);
    output.append(span);
  }
  if (atEnd) spans.at(-1)?.append(rest);
}

// ---- one token ---------------------------------------------------------------------------------------------------

const labels = new Map<number, string>();

/** Show the alternatives to token `index`. */
async function select(index: number): Promise<void> {
  const [span, likely] = [spans[index], choices[index]];
  if (!span || !likely) return;
  spans[selected]?.removeAttribute("aria-selected");
  span.setAttribute("aria-selected", "true");
  selected = index;
  const unknown = likely.map(({ token }) => token).filter((token) => !labels.has(token));
  for (const [i, { pieces, rest }] of (await decode(unknown.map((token) => [token]))).entries()) {
    labels.set(unknown[i]!, visible(pieces.join("") + rest));
  }
  if (selected !== index) return; // another one was selected meanwhile
  find("place").textContent =
    `Token ${index + 1} of ${tokens.length}, as the model sees it before temperature and top k.`;
  find("panel").classList.add("filled");
  bars.replaceChildren(...likely.map((each) => barOf(each, each.token === tokens[index])));
  span.scrollIntoView({ block: "nearest" }); // last: on a phone the bars cover a part of the text
}

function barOf({ token, probability }: Likely, chosen: boolean): HTMLLIElement {
  const row = document.createElement("li");
  const percent = 100 * probability;
  const parts = { token: labels.get(token)!, bar: "", number: `${percent.toFixed(percent < 0.1 ? 3 : 1)} %` };
  for (const [className, textContent] of Object.entries(parts)) {
    row.append(Object.assign(document.createElement("span"), { className, textContent }));
  }
  const [name, bar] = row.children as unknown as [HTMLElement, HTMLElement];
  bar.style.width = `${percent}%`;
  row.title = `token ${token}${chosen ? ", chosen" : ""}: ${probability}`;
  row.dataset.token = String(token);
  row.dataset.probability = String(probability);
  if (!chosen) return row;
  row.className = "chosen";
  row.setAttribute("aria-current", "true");
  name.append(" ✓");
  return row;
}

/** White space made visible. */
function visible(text: string): string {
  return (
    text
      .replaceAll(" ", "␣")
      .replaceAll(/\r?\n|\r/g, "↵")
      .replaceAll("\t", "⇥") || "(nothing)"
  );
}

// ---- user input -------------------------------------------------------------------------------------------------

function showError(error: unknown): void {
  find("error").textContent = error instanceof Error ? error.message : String(error);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (running || generateButton.disabled) return;
  [running, stopped] = [true, false];
  [generateButton.disabled, stopButton.disabled] = [true, false];
  await generate().catch(showError);
  [generateButton.disabled, stopButton.disabled] = [false, true];
  running = false;
});

stopButton.addEventListener("click", () => {
  stopped = true;
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  form.requestSubmit();
});

output.addEventListener("click", ({ target }) => {
  const index = target instanceof HTMLElement ? target.dataset.index : undefined;
  if (index !== undefined) select(Number(index)).catch(showError);
});

output.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step === undefined || spans.length === 0) return;
  event.preventDefault();
  select(Math.min(spans.length - 1, Math.max(0, selected + step))).catch(showError);
});

load().catch((error) => {
  find("loading").hidden = true;
  showError(error);
});
