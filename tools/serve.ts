// Opens a model on a local page: the browser runs it, shows the text as it is sampled and, for a clicked token, the alternatives.
//
//   npx tsx tools/serve.ts --out_dir=out-shakespeare-char
//
// Only this machine can reach the page, and the page reaches nothing else. Left out: several models at once.

import { runScript } from "../configurator.ts";
import { explain, UserError } from "../lib/common/errors.ts";
import { needPackages } from "../lib/common/extra_packages.ts";
import { TemporaryFolder } from "../lib/common/temporary_folder.ts";
import { defaultStart } from "../lib/decoding/start.ts";
import { writeOnnx } from "../lib/formats/onnx.ts";
import { checkArchitecture, openModel, textTokenizer } from "../lib/formats/pretrained.ts";
import { GPT } from "../model.ts";
import { listen, openInBrowser } from "./page_server.ts";
import { createModelServer, type ModelInfo } from "./serve/server.ts";

export const defaults = {
  init_from: "resume", // "resume" (out_dir's checkpoint), "gpt2" to "gpt2-large", or the folder of a model
  out_dir: "out", // folder of the checkpoint
  port: 0, // of 127.0.0.1; 0 takes a free one
  open: true, // open the page in the browser
};

const MOST_BYTES = 2 ** 32; // WebAssembly's memory

/**
 * Serve a page that runs the model, until Ctrl-C.
 * @throws UserError for a model that a browser can't hold
 */
export async function run(config: Readonly<typeof defaults>): Promise<void> {
  needPackages("no page", "onnxruntime-web");

  // 1) a folder for the exported model, removed when this ends
  const { path: folder } = new TemporaryFolder("serve");
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(0));

  // 2) the model as ONNX, and its tokenizer
  const opened = await openModel(config.init_from, config.out_dir);
  checkArchitecture(opened, "the page", "decoder");
  const { source } = opened;
  const tokenizer = await textTokenizer(opened, "the page");
  const model = new GPT(opened.modelArgs);
  const weights = model.parameters.reduce((sum, { data }) => sum + data.byteLength, 0);
  if (weights >= MOST_BYTES) {
    const size = `${(weights / 2 ** 30).toFixed(1)} GiB`;
    throw new UserError(`${source} has ${size} of weights and a browser takes less than 4; sample.ts runs it`);
  }
  await opened.read(model);
  opened.close();
  try {
    await writeOnnx(model, opened.tokenizerMeta, folder, 0); // external weights: the browser then holds one copy less
  } catch (error) {
    throw explain(error, `can't write the model to ${folder}`);
  }

  // 3) the page
  const start = defaultStart(tokenizer);
  const info: ModelInfo = { source, config: model.config, parameters: model.numParams(), start };
  const url = await listen(await createModelServer(folder, info, tokenizer), config.port);
  console.log(`${source} is at ${url} (Ctrl-C ends it)`);
  if (config.open) openInBrowser(url);
}

await runScript(import.meta.url, defaults, run, { usage: "Run a model in the browser." });
