// A server for local pages: it listens on 127.0.0.1 and answers only its own pages. tools/serve.ts and tools/monitor.ts define its files, by
// path, and its calls. Everything else is refused.

import { spawn } from "node:child_process";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { explain, hasCode, UserError } from "../lib/common/errors.ts";
import { z } from "../lib/common/zod.ts";

/** The content at a path: bytes, or the path of a file. */
export type Content = Uint8Array | string;

export interface PageContents {
  files: ReadonlyMap<string, Content>; // GET; "/" is the page
  /** By path, POST: takes JSON and gives JSON. Their UserErrors and ZodErrors are the sender's mistakes. */
  calls: Readonly<Record<string, (body: unknown) => unknown>>;
}

const MOST_BODY = 8e6; // bytes of a request

const HEADERS = {
  // threads in WebAssembly need shared memory, which requires cross-origin isolation
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

export function createPageServer({ files, calls }: PageContents): Server {
  return createServer((request, response) => {
    answer(request, response, files, calls).catch((error) => {
      if (!response.headersSent) return send(response, 500, String(error));
      response.destroy(); // the browser has left, or a file can't be read to its end
    });
  });
}

/** Listen on this machine only. @returns the address */
export function listen(server: Server, port: number): Promise<string> {
  return new Promise((done, fail) => {
    server.once("error", (error) => fail(explain(listenError(error, port), "no server")));
    server.listen(port, "127.0.0.1", () => done(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`));
  });
}

/** Why a server can't use a port, if the user can change it. */
function listenError(error: Error, port: number): Error {
  if (hasCode(error, "EADDRINUSE")) return new UserError(`port ${port} is taken; leave --port out for a free one`);
  if (hasCode(error, "EACCES")) {
    return new UserError(
      `no permission for port ${port}: ports below 1024 are mostly the system's; leave --port out for a free one, or take one like --port=8080`,
    );
  }
  return error;
}

/** The files of a page: its page.html, the style that all pages share and its own, and its scripts. */
export async function pageFiles(folder: string, scripts: readonly string[]): Promise<[path: string, Content][]> {
  return [
    ["/", readFileSync(join(folder, "page.html"))],
    ["/base.css", readFileSync(fileURLToPath(new URL("page.css", import.meta.url)))],
    ["/page.css", readFileSync(join(folder, "page.css"))],
    ...(await bundle(folder, scripts)),
  ];
}

/** TypeScript files of a folder with all that they import, as JavaScript: [/name.js, bytes] of each. */
async function bundle(folder: string, entryPoints: readonly string[]): Promise<[string, Content][]> {
  const { outputFiles } = await build({
    entryPoints: entryPoints.map((name) => join(folder, name)),
    outdir: folder,
    write: false,
    bundle: true,
    format: "esm",
    target: "es2022",
    logLevel: "silent",
    plugins: [
      {
        name: "no side effects of imports: unused modules are left out, and so are Node's",
        setup({ onResolve }) {
          onResolve({ filter: /^\.\.?\/.*\.ts$/ }, ({ path, resolveDir }) => ({
            path: resolve(resolveDir, path),
            sideEffects: false,
          }));
          onResolve({ filter: /^node:/ }, ({ path }) => ({ path, external: true, sideEffects: false }));
        },
      },
    ],
  });
  return outputFiles.map(({ path, contents }) => [path.slice(folder.length).replaceAll("\\", "/"), contents]);
}

/** Without a browser, the printed address has to do. */
export function openInBrowser(url: string): void {
  const commands: Partial<Record<NodeJS.Platform, string[]>> = { darwin: ["open"], win32: ["cmd", "/c", "start", ""] };
  const [command, ...args] = [...(commands[process.platform] ?? ["xdg-open"]), url];
  const child = spawn(command!, args, { stdio: "ignore", detached: true });
  child.on("error", () => {});
  child.unref();
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  files: PageContents["files"],
  calls: PageContents["calls"],
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
