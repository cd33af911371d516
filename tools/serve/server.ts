// The server behind the page of tools/serve.ts: the page's files, the exported model, ONNX Runtime's browser files, and
// the tokenizer. Answers this machine alone, under its own name. Leaves out everything that is not in its list.

import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import { dirname, join, resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import * as z from "zod/mini";

import type { Tokenizer } from "../../data/tokenizer.ts";
import { explain, hasCode, UserError } from "../../engine/errors.ts";
import type { GPTConfig } from "../../model.ts";

const HERE = dirname(fileURLToPath(import.meta.url));
const ORT = dirname(createRequire(import.meta.url).resolve("onnxruntime-web"));
const RUNTIME_FILES = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  "ort.webgpu.min.mjs",
  "ort-wasm-simd-threaded.asyncify.mjs",
  "ort-wasm-simd-threaded.asyncify.wasm",
];
const MOST_BODY = 8e6; // bytes of a request

const HEADERS = {
  // threads in WebAssembly need shared memory, which needs a page that is apart from all others
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-store", // the next model may be at the same address
};

const TYPES: Record<string, string> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  mjs: "text/javascript; charset=utf-8",
  json: "application/json",
  wasm: "application/wasm",
};

/** /model.json */
export interface ModelInfo {
  source: string; // what it came from
  config: GPTConfig;
  parameters: number; // without position embeddings
}

/** What is at an address: bytes, or the path of a file. */
type Content = Uint8Array | string;

const encodeRequest = z.object({ text: z.string() });
const decodeRequest = z.object({ sequences: z.array(z.array(z.int())) });

/** Serves the model that `writeOnnx` wrote into `folder`. */
export async function createPageServer(folder: string, info: ModelInfo, tokenizer: Tokenizer): Promise<Server> {
  const files = new Map<string, Content>([
    ["/", readFileSync(join(HERE, "page.html"))],
    ["/page.css", readFileSync(join(HERE, "page.css"))],
    ["/model.json", Buffer.from(JSON.stringify(info))],
    ["/model.onnx", join(folder, "model.onnx")],
    ["/model.onnx.data", join(folder, "model.onnx.data")],
    ...RUNTIME_FILES.map((name): [string, Content] => [`/ort/${name}`, join(ORT, name)]),
    ...(await scripts()),
  ]);
  const calls: Record<string, (body: unknown) => unknown> = {
    "/encode": (body) => ({ tokens: tokenizer.encode(encodeRequest.parse(body).text, { special: true }) }),
    "/decode": (body) => decodeRequest.parse(body).sequences.map((tokens) => decode(tokenizer, tokens)),
  };
  const server = createServer((request, response) => {
    answer(request, response, files, calls).catch((error) => {
      if (!response.headersSent) return send(response, 500, String(error));
      response.destroy(); // the browser has left, or a file can't be read to its end
    });
  });
  return server;
}

/** Listen on this machine alone; gives the address. */
export function listen(server: Server, port: number): Promise<string> {
  return new Promise((done, fail) => {
    server.once("error", (error) => {
      const taken = hasCode(error, "EADDRINUSE");
      fail(
        taken ? new UserError(`port ${port} is taken; leave --port out for a free one`) : explain(error, "no server"),
      );
    });
    server.listen(port, "127.0.0.1", () => done(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`));
  });
}

/** The text that each token adds, and what is left of a character that was not completed. */
function decode(tokenizer: Tokenizer, tokens: readonly number[]): { pieces: string[]; rest: string } {
  const { push, end } = tokenizer.decoder();
  return { pieces: tokens.map((token) => push(token)), rest: end() };
}

/** page.ts and decoder.ts with all that they import of ours, as JavaScript. */
async function scripts(): Promise<[string, Content][]> {
  const { outputFiles } = await build({
    entryPoints: ["page.ts", "decoder.ts"].map((name) => join(HERE, name)),
    outdir: HERE,
    write: false,
    bundle: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"], // of what is not needed in the browser and left away
    logLevel: "silent",
    plugins: [
      {
        name: "modules of ours do nothing when they are imported",
        setup({ onResolve }) {
          onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, resolveDir }) => ({
            path: resolve(resolveDir, path),
            sideEffects: false,
          }));
        },
      },
    ],
  });
  return outputFiles.map(({ path, contents }) => [path.slice(HERE.length).replaceAll("\\", "/"), contents]);
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  files: ReadonlyMap<string, Content>,
  calls: Record<string, (body: unknown) => unknown>,
): Promise<void> {
  // another site's name may be made to point here (DNS rebinding), and another site's page may send requests
  const { host = "", origin } = request.headers;
  const { localPort } = request.socket;
  const ours = [`127.0.0.1:${localPort}`, `localhost:${localPort}`].includes(host.toLowerCase());
  if (!ours || (origin !== undefined && origin !== `http://${host}`)) {
    return send(response, 403, "only for pages of this server");
  }

  const path = (request.url ?? "").split("?")[0]!;
  const call = Object.hasOwn(calls, path) ? calls[path] : undefined;
  const content = files.get(path);
  if (call) {
    if (request.method !== "POST") return send(response, 405, "POST only");
    if (!(Number(request.headers["content-length"]) <= MOST_BODY)) return send(response, 413, "too long");
    const body = (await buffer(request)).toString();
    try {
      const bytes = Buffer.from(JSON.stringify(call(JSON.parse(body))));
      response.writeHead(200, headersOf("json", bytes.length)).end(bytes);
    } catch (error) {
      const wrong = error instanceof UserError || error instanceof SyntaxError || error instanceof z.core.$ZodError;
      if (!wrong) throw error;
      send(response, 400, error.message);
    }
    return;
  }
  if (content === undefined) return send(response, 404, "nothing here");
  if (request.method !== "GET") return send(response, 405, "GET only");
  const type = path === "/" ? "html" : path.split(".").at(-1)!;
  if (typeof content !== "string") {
    response.writeHead(200, headersOf(type, content.length)).end(content);
  } else {
    response.writeHead(200, headersOf(type, statSync(content).size));
    await pipeline(createReadStream(content), response);
  }
}

function headersOf(type: string, length: number) {
  return { ...HEADERS, "Content-Type": TYPES[type] ?? "application/octet-stream", "Content-Length": length };
}

function send(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { ...HEADERS, "Content-Type": "text/plain; charset=utf-8" }).end(message);
}
