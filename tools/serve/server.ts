// The server of tools/serve.ts' page: the page's files, the exported model, ONNX Runtime's browser files, and the
// tokenizer.

import type { Server } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { z } from "../../lib/common/zod.ts";

import type { Tokenizer } from "../../lib/text/tokenizer.ts";
import type { GPTConfig } from "../../model.ts";
import { type Content, createPageServer, pageFiles } from "../page_server.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const RUNTIME_FILES = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];

/** /model.json */
export interface ModelInfo {
  source: string; // its origin
  config: GPTConfig;
  parameters: number; // without position embeddings
  start: string; // the default prompt
}

const encodeRequest = z.object({ text: z.string() });
const decodeRequest = z.object({ sequences: z.array(z.array(z.int())) });

/** Serve the model that `writeOnnx` wrote into `folder`. */
export async function createModelServer(folder: string, info: ModelInfo, tokenizer: Tokenizer): Promise<Server> {
  const runtime = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
  const files = new Map<string, Content>([
    ...(await pageFiles(HERE, ["page.ts", "decoder.ts"])),
    ["/model.json", Buffer.from(JSON.stringify(info))],
    ["/model.onnx", join(folder, "model.onnx")],
    ["/model.onnx.data", join(folder, "model.onnx.data")],
    ...RUNTIME_FILES.map((name): [string, Content] => [`/ort/${name}`, join(runtime, name)]),
  ]);
  return createPageServer({
    files,
    calls: {
      "/encode": (body) => ({ tokens: tokenizer.encode(encodeRequest.parse(body).text, { special: true }) }),
      "/decode": (body) => decodeRequest.parse(body).sequences.map((tokens) => decode(tokenizer, tokens)),
    },
  });
}

/** The text that each token adds, and the rest of an incomplete character. */
function decode(tokenizer: Tokenizer, tokens: readonly number[]): { pieces: string[]; rest: string } {
  const { push, end } = tokenizer.decoder();
  return { pieces: tokens.map((token) => push(token)), rest: end() };
}
