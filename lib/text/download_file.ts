// Downloads one large file to disk. An interrupted download (Ctrl-C included) continues where it stopped, in the same run or a later one, as
// long as the server's ETag shows that it is the same file; the length and checksum from the server are verified at the end. Left
// out: proxies, which Node's fetch doesn't support.
//
// A partial file is called NAME.<process id>.partial, with NAME.<process id>.partial.json beside it. No two processes write the same one: a
// process takes over a dead one's by renaming it, which only one can do. So two simultaneous downloads of a file only cost twice the
// traffic (process ids belong to one machine: two machines that share a folder may corrupt each other's partial file, which the
// checksum reveals).

import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";

import { SingleBar } from "cli-progress";
import { writeFileAtomic } from "../common/atomic.ts";
import { explain, networkReason, UserError } from "../common/errors.ts";
import { parseJson, readText } from "../common/read_file.ts";
import { isRunning } from "../common/running.ts";
import { z } from "../common/zod.ts";

export interface DownloadOptions {
  label?: string; // name in the progress bar; the file's name if not given
  token?: string; // sent to the origin of the URL as Authorization, and to no other origin
  stallMs?: number; // the longest silence, in ms
  pauses?: readonly number[]; // ms before each retry after no progress; then it gives up
  bytes?: number; // the file's length, if known beforehand
  sha256?: string; // and its checksum
  warn?: (line: string) => void;
}

/** A download that failed, in one line. `status` is the server's; 0 without a connection. */
export class DownloadError extends UserError {
  readonly status: number | undefined;

  constructor(message: string, status?: number) {
    super(message);
    this.status = status;
  }
}

/** The server's metadata of a file: enough to recognize and verify it. */
const Remote = z.object({
  etag: z.nullable(z.string()), // null without one that surely changes with the file
  size: z.nullable(z.int()), // bytes
  sha256: z.nullable(z.string()),
  blob: z.nullable(z.string()), // SHA-1 of "blob <size>\0" and the content, as git makes it
});
type Remote = z.infer<typeof Remote>;

const running = new Map<string, Promise<void>>(); // by path: this process downloads a file once at a time

/**
 * Download `url` to `path`, whose folder is created if need be. `path` exists only once it is complete.
 * @throws DownloadError with the reason in one line; the partial file is kept for the next attempt
 */
export function downloadFile(url: string, path: string, options: DownloadOptions = {}): Promise<void> {
  const key = resolve(path);
  const begun = running.get(key);
  if (begun) return begun;
  const download = new Download(url, path, options).run().finally(() => running.delete(key));
  running.set(key, download);
  return download;
}

/** A failure that another attempt may overcome. */
class Interrupted extends Error {}

class Download {
  readonly #url: string;
  readonly #path: string;
  readonly #partial: string;
  readonly #notes: string; // what #partial is a part of
  readonly #token: string | undefined;
  readonly #stallMs: number;
  readonly #pauses: readonly number[];
  readonly #expected: Partial<Pick<Remote, "size" | "sha256">>; // what is known beforehand
  readonly #warn: (line: string) => void;
  readonly #bar: SingleBar;
  readonly #label: string;
  #most = 0; // most bytes of any attempt
  #answered = false;

  constructor(url: string, path: string, options: DownloadOptions) {
    this.#url = url;
    this.#path = path;
    this.#partial = `${path}.${process.pid}.partial`;
    this.#notes = `${this.#partial}.json`;
    this.#token = options.token;
    this.#stallMs = options.stallMs ?? 20_000;
    this.#pauses = options.pauses ?? [1000, 2000, 4000, 8000, 16_000];
    const { bytes, sha256 } = options;
    this.#expected = { ...(bytes !== undefined && { size: bytes }), ...(sha256 !== undefined && { sha256 }) };
    this.#warn = options.warn ?? console.error;
    this.#label = options.label ?? basename(path);
    const format = "{label} [{bar}] {percentage}% of {size} MB, {rate} MB/s, {eta_formatted} left";
    this.#bar = new SingleBar({ format, stream: process.stderr, etaBuffer: 200 });
  }

  async run(): Promise<void> {
    try {
      mkdirSync(dirname(this.#path), { recursive: true });
      this.#takeOver();
      for (let failures = 0; ; ) {
        const before = this.#most;
        try {
          const remote = await this.#attempt();
          await this.#check(remote);
          break;
        } catch (error) {
          if (!(error instanceof Interrupted)) throw error;
          if (this.#most > before) failures = 0; // it made progress
          const pause = this.#answered ? this.#pauses[failures++] : undefined;
          if (pause === undefined) throw new DownloadError(error.message, this.#answered ? undefined : 0);
          this.#warn(`${error.message}; trying again in ${pause / 1000} s`);
          await new Promise((resolve) => setTimeout(resolve, pause));
        }
      }
      renameSync(this.#partial, this.#path);
      rmSync(this.#notes, { force: true });
      for (const other of this.#abandoned()) discard(other);
    } catch (error) {
      throw explain(error, `can't download to ${this.#path}`);
    }
  }

  // ---- what is on the disk ---------------------------------------------------------------------------------------

  /** Partial downloads of this file whose processes have ended. */
  #abandoned(): string[] {
    const name = basename(this.#path);
    const parts = readdirSync(dirname(this.#path)).filter((part) => part.startsWith(`${name}.`));
    const dead = parts.filter((part) => {
      const pid = /^\.(\d+)\.partial$/.exec(part.slice(name.length))?.[1];
      return pid !== undefined && Number(pid) !== process.pid && !isRunning(Number(pid));
    });
    return dead.map((part) => join(dirname(this.#path), part));
  }

  /** Take over one of them, unless there is one already: of this process, or of an earlier one with its id. */
  #takeOver(): void {
    if (existsSync(this.#partial)) return;
    for (const other of this.#abandoned()) {
      try {
        renameSync(other, this.#partial);
        renameSync(`${other}.json`, this.#notes);
        return;
      } catch {
        // another process was quicker, or nothing is known of this part: then #known() won't use it
      }
    }
  }

  /** The metadata and size of the partial file; undefined if it can't be continued. */
  #known(): { remote: Remote & { etag: string }; have: number } | undefined {
    try {
      const have = statSync(this.#partial).size;
      const remote = parseJson(readText(this.#notes) ?? "", Remote, (why) => new UserError(why));
      const { etag, size } = remote;
      if (etag === null || have === 0 || (size !== null && have > size)) return undefined;
      return { remote: { ...remote, etag }, have };
    } catch {
      return undefined; // no such file, or not one of ours
    }
  }

  // ---- the network -----------------------------------------------------------------------------------------------

  /** Download the rest. Returns once the file has the server's length. */
  async #attempt(): Promise<Remote> {
    const known = this.#known();
    if (known && known.have === known.remote.size) return known.remote; // only renaming was left
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), this.#stallMs);
    try {
      let { remote, response } = await this.#request(abort.signal, known?.have ?? 0);
      let start = 0;
      if (known && response.status === 206 && remote.etag === known.remote.etag) {
        const range = response.headers.get("content-range");
        if (range?.startsWith(`bytes ${known.have}-`)) start = known.have;
      }
      if (start === 0 && response.status !== 200) {
        await response.body?.cancel(); // a part of another file, or another range: start over
        ({ remote, response } = await this.#request(abort.signal, 0));
        if (response.status !== 200) throw this.#refused(response);
      }
      await this.#receive(response, remote, start, timer);
      return remote;
    } catch (error) {
      if (error instanceof UserError || error instanceof Interrupted || isSystemError(error)) throw error;
      if (abort.signal.aborted) throw new Interrupted(`${this.#url} sent nothing for ${this.#stallMs / 1000} seconds`);
      const what = this.#answered ? "the connection broke while loading" : "no route to";
      throw new Interrupted(`${what} ${this.#url} (${networkReason(error)})`);
    } finally {
      clearTimeout(timer);
      this.#bar.stop();
    }
  }

  /**
   * Ask for the file from byte `from` on and follow redirects: by hand, since a redirect's own response has the file's
   * checksum, and the token must not be sent to another origin.
   */
  async #request(signal: AbortSignal, from: number): Promise<{ remote: Remote; response: Response }> {
    let url = new URL(this.#url);
    const { origin } = url;
    const linked: Headers[] = [];
    for (let hops = 0; hops < 10; hops++) {
      const headers = new Headers({ "accept-encoding": "identity" }); // a length and ranges are of the file itself
      if (from > 0) headers.set("range", `bytes=${from}-`);
      if (this.#token && url.origin === origin) headers.set("authorization", `Bearer ${this.#token}`);
      const response = await fetch(url.href, { headers, signal, redirect: "manual" });
      this.#answered = true;
      linked.push(response.headers);
      const location = response.headers.get("location");
      if (response.status < 300 || response.status >= 400 || location === null) {
        if (response.ok || response.status === 416)
          return { remote: { ...describe(linked), ...this.#expected }, response };
        throw this.#refused(response);
      }
      await response.body?.cancel();
      const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
      if (!next || !/^https?:$/.test(next.protocol)) throw new DownloadError(`${url} leads to no web address`);
      url = next;
    }
    throw new DownloadError(`${this.#url} leads from one address to the next without end`);
  }

  /** The error for a response that isn't the file. */
  #refused(response: Response): Error {
    void response.body?.cancel();
    const { status, statusText } = response;
    const message = `${this.#url} answered ${status} ${statusText}`.trimEnd();
    return status === 429 || status >= 500 ? new Interrupted(message) : new DownloadError(message, status);
  }

  /** Write the response's body after the first `start` bytes. */
  async #receive(response: Response, remote: Remote, start: number, timer: NodeJS.Timeout): Promise<void> {
    let have = start;
    const { size } = remote;
    if (start === 0) writeFileAtomic(this.#notes, JSON.stringify(remote));
    const file: FileHandle = await open(this.#partial, start === 0 ? "w" : "a");
    const began = performance.now();
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
    const payload = () => ({
      label: this.#label,
      size: size === null ? "?" : megabytes(size),
      rate: megabytes(((have - start) / Math.max(performance.now() - began, 1)) * 1000),
    });
    this.#bar.start(size ?? 0, have, payload()); // draws nothing unless stderr is a terminal
    try {
      for await (const chunk of response.body ?? []) {
        timer.refresh();
        if (size !== null && have + chunk.length > size) {
          throw new DownloadError(`${this.#url} sent more than the ${size} bytes that it has`);
        }
        await file.appendFile(chunk);
        have += chunk.length;
        this.#most = Math.max(this.#most, have);
        if (size === null) this.#bar.setTotal(have);
        this.#bar.update(have, payload());
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (size !== null && have < size) throw new Interrupted(`${this.#url} ended after ${have} of ${size} bytes`);
  }

  /** Verify the complete file against the server's metadata; a wrong one is removed. */
  async #check({ size, sha256, blob }: Remote): Promise<void> {
    const length = statSync(this.#partial).size;
    const hash = sha256 ? createHash("sha256") : blob ? createHash("sha1").update(`blob ${length}\0`) : undefined;
    let problem = size !== null && length !== size ? `${length} bytes, not ${size}` : undefined;
    if (hash && !problem) {
      for await (const chunk of createReadStream(this.#partial, { highWaterMark: 1 << 20 })) hash.update(chunk);
      const digest = hash.digest("hex");
      const expected = sha256 ?? blob;
      if (digest !== expected) problem = `checksum ${digest}, not ${expected}`;
    }
    if (!problem) return;
    discard(this.#partial);
    throw new DownloadError(`${this.#url} sent another file than it says: ${problem}; try again`);
  }
}

/**
 * The file's metadata from the responses, the first one first. Hugging Face's hub gives the checksum as the ETag: SHA-256 of a
 * large file, git's SHA-1 of a small one; it sends a large file from elsewhere and says x-linked-... where it leads there.
 */
function describe(answers: readonly Headers[]): Remote {
  const linked = answers.find((headers) => headers.has("x-linked-etag"));
  const last = answers.at(-1);
  const text = linked?.get("x-linked-etag") ?? last?.get("etag") ?? "";
  const plain = text.replace(/^W\//, "").replaceAll('"', "");
  const fromHub = answers.some((headers) => headers.has("x-repo-commit"));
  const sha256 = linked && /^[0-9a-f]{64}$/.test(plain) ? plain : null;
  const blob = fromHub && /^[0-9a-f]{40}$/.test(plain) ? plain : null;
  const sure = plain !== "" && (!text.startsWith("W/") || sha256 !== null || blob !== null);
  const size = linked?.get("x-linked-size") ?? /\/(\d+)$/.exec(last?.get("content-range") ?? "")?.[1];
  const length = size ?? (last?.has("content-encoding") ? null : last?.get("content-length"));
  return { etag: sure ? plain : null, size: length && /^\d+$/.test(length) ? Number(length) : null, sha256, blob };
}

function discard(partial: string): void {
  rmSync(partial, { force: true });
  rmSync(`${partial}.json`, { force: true });
}

/** Such as a full disk. fetch wraps its system errors as causes. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "syscall" in error;
}
