// One known file from the web: its length and checksum are known beforehand, so it comes whole or not at all.
// Gives up where nothing arrives for a while. Leaves out resuming and retries: the files are small
// (download_file.ts is for large ones).

import { SingleBar } from "cli-progress";

import { UserError } from "../common/errors.ts";
import { sha256 } from "./text.ts";

export interface RemoteFile {
  url: string;
  bytes: number;
  sha256: string;
}

/** The bytes of `file`; a UserError says in one line what went wrong. `stallMs`: the longest silence, in ms. */
export async function download(file: RemoteFile, stallMs = 5000): Promise<Buffer> {
  const bytes = await receive(file, stallMs);
  if (bytes.length !== file.bytes) {
    throw new UserError(`${file.url} sent ${count(bytes.length)} bytes, not the expected ${count(file.bytes)}`);
  }
  if (sha256(bytes) !== file.sha256) {
    throw new UserError(`${file.url} sent another file: SHA-256 ${sha256(bytes)}, not the expected ${file.sha256}`);
  }
  return bytes;
}

/** Whatever the server sends, up to one byte more than expected: enough to see that it is too much. */
async function receive({ url, bytes: expected }: RemoteFile, stallMs: number): Promise<Buffer> {
  const abort = new AbortController();
  const stalled = setTimeout(() => abort.abort(), stallMs); // also bounds a name lookup that hangs
  const bar = new SingleBar({ format: "download [{bar}] {percentage}% of {total} bytes", stream: process.stderr });
  const chunks: Uint8Array[] = [];
  let received = 0;
  try {
    const response = await fetch(url, { signal: abort.signal });
    if (!response.ok) {
      await response.body?.cancel();
      throw new UserError(`${url} answered ${response.status} ${response.statusText}`.trimEnd());
    }
    bar.start(expected, 0); // draws nothing unless stderr is a terminal
    for await (const chunk of response.body ?? []) {
      stalled.refresh();
      chunks.push(chunk);
      received += chunk.length;
      bar.update(Math.min(received, expected));
      if (received > expected) break; // a login page or the like: don't read it to its end
    }
    return Buffer.concat(chunks).subarray(0, expected + 1);
  } catch (error) {
    if (error instanceof UserError) throw error;
    if (abort.signal.aborted) throw new UserError(`${url} sent nothing for ${stallMs / 1000} seconds`);
    throw new UserError(`cannot reach ${url}: ${networkReason(error)}`);
  } finally {
    clearTimeout(stalled);
    bar.stop();
  }
}

/** `fetch` says only "fetch failed"; what a person can act on is in the cause. */
export function networkReason(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause ? String(cause.code) : cause.message;
}

function count(n: number): string {
  return n.toLocaleString("en-US");
}
