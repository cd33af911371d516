// OpenWebText's parquet files from the Hugging Face hub. They are kept in a folder: a download that was interrupted goes
// on, and once all are here no network is needed. Environment: HF_ENDPOINT (a mirror), HF_TOKEN. Leaves out renewing the
// list of files: remove the folder.

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeFileAtomic } from "../../lib/common/atomic.ts";
import { explain, networkReason, UserError } from "../../lib/common/errors.ts";
import { readText } from "../../lib/common/read_file.ts";
import { z } from "../../lib/common/zod.ts";
import { shownPath } from "../../lib/text/dataset.ts";
import { downloadFile } from "../../lib/text/download_file.ts";

export const REPOSITORY = "Skylion007/openwebtext";

const INSTEAD = "give documents of your own with --input=FILE,FOLDER,... (.txt, .md, .jsonl, .json, .csv or .parquet)";
const listSchema = z.record(z.string(), z.record(z.string(), z.array(z.url({ protocol: /^https?$/ }))));

/** The paths of all files, in the hub's order; a UserError, in one line, where they can't be had. */
export async function downloadOpenWebText(folder: string, env = process.env): Promise<string[]> {
  const urls = await listUrls(folder, env);
  const paths = urls.map((_, i) => join(folder, `${String(i).padStart(5, "0")}.parquet`));
  const token = env.HF_TOKEN?.trim();
  for (const [i, path] of paths.entries()) {
    if (existsSync(path)) continue;
    const label = `file ${i + 1} of ${urls.length}`;
    try {
      await downloadFile(urls[i]!, path, { label, ...(token && { token }) });
    } catch (error) {
      if (error instanceof UserError) throw new UserError(`${error.message}; try again later, or ${INSTEAD}`);
      throw error;
    }
  }
  return paths;
}

/** The addresses of the files: asked for once, so that all are of one revision. */
async function listUrls(folder: string, env: NodeJS.ProcessEnv): Promise<string[]> {
  const saved = join(folder, "list.json");
  if (existsSync(saved)) {
    const urls = z.array(z.string()).safeParse(parse(readText(saved) ?? ""));
    if (urls.success) return urls.data;
    throw new UserError(`${shownPath(saved)} is no list of addresses; remove it, then it is asked for again`);
  }
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  const url = `${endpoint}/api/datasets/${REPOSITORY}/parquet`;
  const found = listSchema.safeParse(parse(await get(url, env.HF_TOKEN?.trim())));
  const urls = found.success ? Object.values(found.data).flatMap(({ train = [] }) => train) : [];
  if (urls.length === 0) throw new UserError(`${url} lists no parquet files of a split "train"; ${INSTEAD}`);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileAtomic(saved, JSON.stringify(urls, null, 1));
  } catch (error) {
    throw explain(error, `cannot write into ${shownPath(folder)}`);
  }
  return urls;
}

async function get(url: string, token: string | undefined): Promise<string> {
  if (!URL.canParse(url)) throw new UserError(`HF_ENDPOINT makes ${url}, which is no web address`);
  try {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await fetch(url, { headers, signal: AbortSignal.timeout(20_000) });
    if (response.ok) return await response.text();
    await response.body?.cancel();
    throw new UserError(`${url} answered ${response.status} ${response.statusText}`.trimEnd().concat(`; ${INSTEAD}`));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`no route to ${url} (${networkReason(error)}); ${INSTEAD}`);
  }
}

function parse(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}
