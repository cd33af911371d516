// lib/formats/pretrained.ts: which model --init_from means, and one line where it means none.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { createCachedDecoder } from "../../../lib/decoding/cached_decoder.ts";
import { createPlainDecoder } from "../../../lib/decoding/plain_decoder.ts";
import { createEngine } from "../../../lib/engine/runtime/program.ts";
import { GPT2_NAMES, type OpenedModel, openModel, textTokenizer } from "../../../lib/formats/pretrained.ts";
import { GPT2_META } from "../../../lib/text/meta.ts";
import { GPT } from "../../../model.ts";
import { saveModel } from "../../support.ts";
import { serve, userError } from "../text/support.ts";
import { assertSameModel, fixture, newFolder, placedNames, shakenGPT } from "./support.ts";

async function checkpoint(model: GPT, tokenizer: Record<string, unknown> | null = null): Promise<string> {
  const folder = newFolder();
  await saveModel(folder, model, { tokenizer });
  return folder;
}

async function readModel(opened: OpenedModel): Promise<GPT> {
  const model = new GPT(opened.modelArgs);
  await opened.read(model);
  opened.close();
  return model;
}

test("resume is the checkpoint of out_dir, another folder that folder's; both with the state of the run", async () => {
  const model = shakenGPT({ bias: false });
  const folder = await checkpoint(model);
  for (const [initFrom, outDir] of [
    ["resume", folder],
    [folder, "elsewhere"],
  ] as const) {
    const opened = await openModel(initFrom, outDir);
    assert.equal(opened.source, folder);
    assert.equal(opened.metadata?.iter_num, 7);
    assert.deepEqual(opened.tokenizerMeta, GPT2_META);
    assert.equal(placedNames(opened).length, model.parameters.length);
    assertSameModel(await readModel(opened), model);
  }
});

test("its tokenizer, or one line where no file says what the tokens mean", async () => {
  const gpt2 = await openModel("resume", await checkpoint(shakenGPT({ vocab_size: 50_304 })));
  assert.deepEqual((await gpt2.tokenizer()).encode("Hello"), [15496]);
  gpt2.close();
  const other = await openModel(fixture("hf_gelu_new"), "");
  await assert.rejects(other.tokenizer(), userError(/hf_gelu_new doesn't say what its tokens mean$/));
  other.close();
  const larger = await openModel("resume", await checkpoint(shakenGPT({ vocab_size: 11 })));
  await assert.rejects(larger.tokenizer(), userError(/its tokenizer has 50257 tokens and the model 11; it belongs to/));
  larger.close();
  // an encoder's last token is no text: [MASK]
  const itos = [..."abc"];
  const meta = { kind: "char", vocab_size: 3, itos, stoi: { a: 0, b: 1, c: 2 } };
  const encoder = await openModel(
    "resume",
    await checkpoint(shakenGPT({ vocab_size: 3, architecture: "encoder" }), meta),
  );
  await assert.rejects(encoder.tokenizer(), userError(/its tokenizer has 3 tokens and the model 2; it belongs to/));
  encoder.close();
});

test("what needs a text is refused where the tokens have none, with what to do", async () => {
  const folder = await checkpoint(shakenGPT({ vocab_size: 9 }), { kind: "ids", vocab_size: 9 });
  const opened = await openModel("resume", folder);
  assert.deepEqual((await opened.tokenizer()).encode("8 0"), [8, 0]);
  await assert.rejects(
    textTokenizer(opened, "--evaluate"),
    userError(/^--evaluate needs a text, .*: npx tsx sample\.ts --init_from=.* --start="1 2 3"$/),
  );
  opened.close();
});

test("a decoder needs no weights but the file's, in 32 bits and in 8", async () => {
  const model = shakenGPT({ bias: true });
  const folder = await checkpoint(model);
  const expected = (await createPlainDecoder(model).start([3, 1, 4], 1)).slice();
  const engine = await createEngine({ compile: true, threads: 1 });
  const differenceWith = async (dtype: string) => {
    const opened = await openModel(folder, folder);
    const decoder = await createCachedDecoder(engine, new GPT(opened.modelArgs), opened.frozen(dtype));
    opened.close();
    const logits = (await decoder.start([3, 1, 4], 1)).slice();
    await decoder.dispose();
    return Math.max(...logits.map((logit, i) => Math.abs(logit - expected[i]!)));
  };
  assert.ok((await differenceWith("float32")) < 2e-5); // roundings of single precision
  assert.ok((await differenceWith("int8")) > 1e-4, "8 bits can't be as near");
});

test("a folder's files decide whose model it is; ckpt.json before the others", async () => {
  for (const [name, ffn] of [
    ["hf_gelu_new", "gelu_tanh"],
    ["nanogpt", "gelu"],
  ] as const) {
    const opened = await openModel(fixture(name), "elsewhere");
    assert.equal(opened.metadata, undefined);
    assert.equal(opened.tokenizerMeta, undefined);
    assert.equal(opened.source, fixture(name));
    const model = await readModel(opened);
    assert.equal(model.config.ffn, ffn);
    assert.ok(model.parameters.every(({ data }) => data.some((number) => number !== 0)));
  }
  const folder = await checkpoint(shakenGPT());
  cpSync(fixture("hf_gelu_new"), folder, { recursive: true });
  assertSameModel(await readModel(await openModel(folder, "elsewhere")), shakenGPT());
});

/** The environment in which the hub's files can only come from `endpoint`. */
function setEnvironment(t: TestContext, changes: Record<string, string | undefined>): void {
  const before = Object.keys(changes).map((key) => [key, process.env[key]] as const);
  const set = (entries: Iterable<readonly [string, string | undefined]>) => {
    for (const [key, value] of entries) {
      if (value === undefined) delete process.env[key];
      else process.env[key] = value;
    }
  };
  set(Object.entries(changes));
  t.after(() => set(before));
}

for (const name of GPT2_NAMES) {
  test(`${name} is the model of that name in the hub, fetched once`, async (t) => {
    const asked: string[] = [];
    const endpoint = await serve(t, (request, response) => {
      asked.push(`${request.url}`);
      const file = `${request.url}`.split("/").at(-1)!;
      response.end(readFileSync(join(fixture("hf_untied"), file)));
    });
    setEnvironment(t, {
      HF_HOME: newFolder(),
      HF_HUB_CACHE: undefined,
      HF_HUB_OFFLINE: undefined,
      HF_ENDPOINT: endpoint,
    });
    const first = await readModel(await openModel(name, "elsewhere"));
    const count = asked.length;
    assert.ok(
      asked.every((url) => url.startsWith(`/openai-community/${name}/resolve/main/`)),
      asked.join(" "),
    );
    assertSameModel(await readModel(await openModel(name, "elsewhere")), first);
    assert.equal(asked.length, count);
  });
}

test("without a network GPT-2 is one line that says which files to bring, and where to", async (t) => {
  setEnvironment(t, { HF_HOME: newFolder(), HF_HUB_CACHE: undefined, HF_HUB_OFFLINE: "1" });
  await assert.rejects(
    openModel("gpt2", "elsewhere"),
    userError(/HF_HUB_OFFLINE.*openai-community\/gpt2's config\.json/),
  );
});

const empty = newFolder();
mkdirSync(empty);
const pickle = join(empty, "ckpt.pt");
writeFileSync(pickle, "");
for (const [what, initFrom, outDir, message] of [
  ["resume without a checkpoint", "resume", empty, /no checkpoint in .* \(no ckpt\.json there\); train one/],
  ["a folder without a model", empty, "out", /no checkpoint in \S+model \(.*resume, gpt2, gpt2-medium, .*or a folder/],
  [
    "no folder",
    "another",
    "out",
    /no checkpoint in another .*--init_from may be resume, gpt2, gpt2-medium, gpt2-large, gpt2-xl/,
  ],
  ["a mistyped name", "gpt2-mediun", "out", /^no checkpoint in gpt2-mediun; did you mean gpt2-medium\?$/],
  ["PyTorch's own file", pickle, "out", /ckpt\.pt is a file; give a folder, see docs\/guides\/formats\.md/],
] as const) {
  test(`one line: ${what}`, async () => {
    await assert.rejects(openModel(initFrom, outDir), userError(message));
  });
}

test("a checkpoint with a broken tokenizer or impossible settings is one line", async () => {
  const broken = await checkpoint(shakenGPT(), { kind: "words" });
  await assert.rejects(openModel("resume", broken), userError(/the checkpoint in .* has a wrong field, kind/));
  const impossible = shakenGPT();
  impossible.config.n_head = 3;
  await assert.rejects(
    openModel("resume", await checkpoint(impossible)),
    userError(/n_embd 8 does not divide by n_head 3/),
  );
});
