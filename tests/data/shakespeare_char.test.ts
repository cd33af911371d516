// The script itself, in its own process, on a text of our own: it must neither download nor write beside itself.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { readMeta } from "../../lib/text/meta.ts";
import { TokenFile } from "../../lib/text/token_file.ts";
import { createTokenizer } from "../../lib/text/tokenizer.ts";
import { temporaryFolder } from "../lib/text/support.ts";

const SCRIPT = fileURLToPath(new URL("../../data/shakespeare_char/prepare.ts", import.meta.url));

function prepare(cwd: string, ...flags: string[]) {
  const tsx = import.meta.resolve("tsx");
  const { status, stdout, stderr } = spawnSync(process.execPath, ["--import", tsx, SCRIPT, ...flags], {
    cwd,
    encoding: "utf8",
  });
  return { status, stdout, stderr: stderr.trim() };
}

test("prepare.ts makes a dataset of --input in --out, and says what it did", async (t) => {
  const folder = temporaryFolder(t);
  const text = "Once more unto the breach, dear friends, once more;\n".repeat(20);
  writeFileSync(join(folder, "in.txt"), `\uFEFF${text.replaceAll("\n", "\r\n")}`); // as on Windows
  const { status, stdout, stderr } = prepare(folder, "--input=in.txt", "--out=made");
  assert.equal(stderr, "");
  assert.equal(status, 0);
  assert.match(stdout, /^in\.txt: 20 line ends \\r\\n or \\r became \\n, .*--keep_crlf=true keeps them$/m);
  assert.match(stdout, /in\.txt, 1,040 characters/);
  assert.match(stdout, /train\.bin: +936 tokens\nval\.bin: +104 tokens/);
  const made = join(folder, "made");
  assert.deepEqual(readdirSync(made).sort(), ["meta.json", "train.bin", "val.bin"]);
  const { encode, decode, meta } = await createTokenizer(readMeta(made));
  const file = new TokenFile(join(made, "train.bin"));
  t.after(() => file.close());
  const tokens = new Int32Array(file.length);
  file.read(0, file.length, tokens);
  assert.equal(decode(tokens), text.slice(0, 936));
  assert.deepEqual(encode("Once"), [...tokens.subarray(0, 4)]);
  assert.ok(meta.source && "path" in meta.source);
  assert.equal(meta.source.path, "in.txt");

  const kept = prepare(folder, "--input=in.txt", "--out=kept", "--keep_crlf=true");
  assert.equal(kept.status, 0);
  assert.match(kept.stdout, /in\.txt, 1,060 characters\ncharacters: \\n\\u\{d\}/);
});

test("prepare.ts refuses bad input in one line and writes nothing", (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, "latin1.txt"), Buffer.from("caf\u00e9 au lait, s'il vous pla\u00eet", "latin1"));
  writeFileSync(join(folder, "empty.txt"), "");
  const cases: [string, RegExp][] = [
    ["latin1.txt", /^error: latin1\.txt is not UTF-8 text: bad byte at offset 3;/],
    ["empty.txt", /^error: empty\.txt has 0 characters/],
  ];
  for (const [input, pattern] of cases) {
    const { status, stderr } = prepare(folder, `--input=${input}`, "--out=made");
    assert.equal(status, 1);
    assert.match(stderr, pattern);
    assert.ok(!stderr.includes("\n"), stderr);
  }
  assert.ok(!existsSync(join(folder, "made")));
});
