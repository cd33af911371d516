// Files of the Hugging Face hub, cached on this machine: a cached file costs no request. Looks in the cache of Python's huggingface_hub, which
// is only read, and in our own folder. Always the newest revision of the main branch at the time of the download. Left out: other
// revisions and updates (delete a file to download it again).
//
// Our folder is nanogpt/hub/<repo, with -- for />/ in $HF_HOME or else in the user's cache folder ($XDG_CACHE_HOME or
// ~/.cache; ~/Library/Caches on a Mac; %LOCALAPPDATA% on Windows). Environment: HF_HOME, HF_HUB_CACHE (Python's cache),
// HF_ENDPOINT (a mirror), HF_TOKEN (for gated repositories), HF_HUB_OFFLINE=1 (no requests).

import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { UserError } from "../common/errors.ts";
import { readText } from "../common/read_file.ts";
import { DownloadError, type DownloadOptions, downloadFile } from "./download_file.ts";

type Environment = Readonly<Record<string, string | undefined>>;

export interface HubOptions extends Pick<DownloadOptions, "stallMs" | "pauses" | "warn"> {
  env?: Environment; // instead of process.env
}

/**
 * The local path of a repository's file, such as model.safetensors of openai-community/gpt2; downloaded if need be. A
 * dataset's repository is "datasets/<owner>/<name>".
 * @throws UserError with what is missing and what to do
 */
export async function hubFile(repo: string, file: string, options: HubOptions = {}): Promise<string> {
  const { env = process.env, ...rest } = options;
  if (!isPlain(repo)) throw new UserError(`${repo} isn't a repository's name; give one such as openai-community/gpt2`);
  if (!isPlain(file)) throw new UserError(`${file} isn't a file name in a repository`);
  const ours = join(cacheFolder(env), "nanogpt", "hub", repo.replaceAll("/", "--"), file);
  const snapshot = pythonSnapshot(repo, env);
  const theirs = snapshot && join(snapshot, file);
  if (theirs && existsSync(theirs)) return theirs;
  if (existsSync(ours)) return ours;

  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  const url = [endpoint, ...repo.split("/"), "resolve", "main", ...file.split("/")].join("/");
  if (!URL.canParse(url) || !/^https?:/.test(url)) throw new UserError(`HF_ENDPOINT=${endpoint} is no web address`);
  const missing =
    `no copy of ${repo}'s ${file} here: looked for ${ours} and ` +
    `${theirs ?? `${pythonRepo(repo, env)} (Python's cache)`}; bring the file and put it at ${ours}`;
  if (/^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? "")) throw new UserError(`HF_HUB_OFFLINE is set and ${missing}`);
  const token = env.HF_TOKEN?.trim();
  if (token && !/^[\x21-\x7e]+$/.test(token)) throw new UserError("HF_TOKEN holds characters that no token has");
  try {
    await downloadFile(url, ours, { label: `${repo} ${file}`, ...(token && { token }), ...rest });
  } catch (error) {
    if (!(error instanceof DownloadError)) throw error;
    const { message, status } = error;
    if (status === 0) throw new UserError(`${message} and ${missing}`);
    if (status === 404) throw new UserError(`${message}: ${repo} has no ${file}, or there is no ${repo}`);
    if (status !== 401 && status !== 403) throw error;
    const advice = token
      ? `the token in HF_TOKEN may not read ${repo}; ask for access at ${endpoint}/${repo}`
      : `${repo} is gated or private, or there is no such repository; set HF_TOKEN to a token that may read it`;
    throw new UserError(`${message}: ${advice}`);
  }
  return ours;
}

/** Names joined by "/", without "..". */
function isPlain(path: string): boolean {
  return path.split("/").every((name) => /^[\w.-]+$/.test(name) && !/^\.+$/.test(name));
}

function cacheFolder(env: Environment): string {
  if (env.HF_HOME) return env.HF_HOME;
  if (process.platform === "darwin") return join(homedir(), "Library", "Caches");
  if (process.platform === "win32") return env.LOCALAPPDATA || join(homedir(), "AppData", "Local");
  return env.XDG_CACHE_HOME || join(homedir(), ".cache");
}

/** Where Python's huggingface_hub keeps a repository. */
function pythonRepo(repo: string, env: Environment): string {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  const name = repo.startsWith("datasets/") ? repo : `models/${repo}`;
  return join(env.HF_HUB_CACHE || join(home, "hub"), name.replaceAll("/", "--"));
}

/** The folder of its files at the commit that Python last saw on the main branch, if there is one. */
function pythonSnapshot(repo: string, env: Environment): string | undefined {
  const folder = pythonRepo(repo, env);
  const ref = join(folder, "refs", "main");
  const commit = (readText(ref, { most: 1000 }) ?? "").trim();
  return /^[0-9a-f]{40}$/.test(commit) ? join(folder, "snapshots", commit) : undefined;
}
