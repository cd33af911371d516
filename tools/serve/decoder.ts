// The model in the browser, in a worker so that the page stays responsive: ONNX Runtime Web on WebGPU if there is a GPU, else in WebAssembly.
// One sequence with a KV cache, in the layout of lib/formats/onnx.ts. Left out: choosing a token; page.ts gets logits.

import type { InferenceSession, Tensor } from "onnxruntime-web";

import type { GPTConfig } from "../../model.ts";

/** The page's requests, one at a time. */
export type Request =
  | { kind: "load"; config: GPTConfig; backend: string | null } // null: the best available
  | { kind: "start"; prompt: readonly number[] }
  | { kind: "next"; token: number };

/** Replies: progress reports while loading, then one of the others for each request. */
export type Reply =
  | { loaded: number; total: number }
  | { backend: string }
  | { logits: Float32Array }
  | { error: string };

type Runtime = typeof import("onnxruntime-web");

const MOST_THREADS = 8;

let runtime: Runtime;
let session: InferenceSession;
let opening: InferenceSession | undefined; // for the first token: WebGPU (1.30) can't take arrays without elements
let config: GPTConfig;
let window: number[] = []; // at most block_size
let past: Record<string, Tensor> = {};

const reply = (message: Reply, transfer: Transferable[] = []) => postMessage(message, { transfer });

addEventListener("message", async ({ data: request }: MessageEvent<Request>) => {
  try {
    if (request.kind === "load") {
      config = request.config;
      reply({ backend: await load(request.backend) });
    } else {
      const logits = request.kind === "start" ? await start(request.prompt) : await next(request.token);
      reply({ logits }, [logits.buffer]);
    }
  } catch (error) {
    reply({ error: error instanceof Error ? error.message : `ONNX Runtime failed with code ${error}` });
  }
});

/** Create the session. @returns its backend */
async function load(wanted: string | null): Promise<string> {
  const [model, data] = await download(["/model.onnx", "/model.onnx.data"]);
  const gpu = wanted === "wasm" ? undefined : await findGpu();
  if (wanted === "webgpu" && !gpu) throw new Error("no WebGPU in this browser");
  const webgpu = gpu !== undefined && (wanted === "webgpu" || !gpu.fallback);

  // one of two builds: the one with WebGPU is twice as large
  const address = `${location.origin}/ort/`;
  runtime = await import(`${address}ort.${webgpu ? "webgpu" : "wasm"}.min.mjs`);
  const { wasm } = runtime.env;
  wasm.wasmPaths = address;
  wasm.numThreads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  const options: InferenceSession.SessionOptions = {
    executionProviders: ["wasm"],
    externalData: [{ path: "model.onnx.data", data: data! }],
    logSeverityLevel: 3, // no warnings about operators that WebGPU leaves to the CPU
  };
  if (webgpu) {
    opening = await runtime.InferenceSession.create(model!, options);
    options.executionProviders = ["webgpu"];
    const stay = layerNames("present").map((name) => [name, "gpu-buffer"] as const);
    options.preferredOutputLocation = Object.fromEntries(stay);
  }
  session = await runtime.InferenceSession.create(model!, options);
  if (webgpu) return `WebGPU (${gpu.name})`;
  return `WebAssembly, ${wasm.numThreads} thread${wasm.numThreads === 1 ? "" : "s"}`;
}

/** All of these files, with a report every now and then. */
async function download(paths: readonly string[]): Promise<Uint8Array[]> {
  const responses = await Promise.all(paths.map((path) => fetch(path)));
  const bodies = responses.map((response) => {
    if (!response.ok || !response.body) throw new Error(`the server answers ${response.status} for the model`);
    return new Uint8Array(Number(response.headers.get("Content-Length")));
  });
  const total = bodies.reduce((sum, { length }) => sum + length, 0);
  let loaded = 0;
  let reported = 0;
  for (const [i, body] of bodies.entries()) {
    const reader = responses[i]!.body!.getReader();
    let at = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      body.set(part.value, at);
      at += part.value.length;
      loaded += part.value.length;
      if (loaded - reported < total / 100) continue;
      reported = loaded;
      reply({ loaded, total });
    }
    if (at !== body.length) throw new Error("the model did not arrive whole; load the page again");
  }
  return bodies;
}

interface Gpu {
  requestAdapter(): Promise<{ info: { vendor: string; architecture: string; isFallbackAdapter?: boolean } } | null>;
}

/** The GPU that WebGPU offers; `fallback` if it is emulated on the CPU, slower than WebAssembly. */
async function findGpu(): Promise<{ name: string; fallback: boolean } | undefined> {
  const adapter = await (navigator as { gpu?: Gpu }).gpu?.requestAdapter();
  if (!adapter) return undefined;
  const { vendor, architecture, isFallbackAdapter } = adapter.info;
  const fallback = isFallbackAdapter ?? architecture === "swiftshader";
  return { name: [vendor, architecture].filter(Boolean).join(" ") || "no name", fallback };
}

/** Logits [V] of the token that follows the prompt. */
function start(prompt: readonly number[]): Promise<Float32Array> {
  window = prompt.slice(-config.block_size);
  return runAll();
}

/** Logits [V] of the token that follows one more. Past block_size every position shifts, which invalidates the cache. */
function next(token: number): Promise<Float32Array> {
  window.push(token);
  if (window.length <= config.block_size) return run([token]);
  window.shift();
  return runAll();
}

/** The whole window, with an empty cache. */
async function runAll(): Promise<Float32Array> {
  forget();
  if (!opening) return run(window);
  const [first, ...rest] = window;
  const logits = await run([first!], opening);
  return rest.length === 0 ? logits : run(rest);
}

function layerNames(what: "past" | "present"): string[] {
  return Array.from({ length: config.n_layer }, (_, i) => [`${what}.${i}.key`, `${what}.${i}.value`]).flat();
}

function forget(): void {
  const { n_head, n_kv_head, n_embd } = config;
  const shape = [1, n_kv_head || n_head, 0, n_embd / n_head];
  const empty = () => new runtime.Tensor("float32", new Float32Array(), shape);
  keep(Object.fromEntries(layerNames("past").map((name) => [name, empty()])));
}

function keep(tensors: Record<string, Tensor>): void {
  for (const tensor of Object.values(past)) tensor.dispose(); // GPU tensors must be disposed of
  past = tensors;
}

async function run(ids: readonly number[], by = session): Promise<Float32Array> {
  const input = new runtime.Tensor("int32", Int32Array.from(ids), [1, ids.length]);
  const { logits, ...present } = await by.run({ input_ids: input, ...past });
  keep(Object.fromEntries(Object.entries(present).map(([name, tensor]) => [name.replace("present", "past"), tensor])));
  const all = (await logits!.getData(true)) as Float32Array; // [1, T, V]
  return all.slice(-config.vocab_size);
}
