// sample.ts as a person runs it, on a tiny checkpoint with random weights. What the decoders and options compute has
// tests of its own, under decoding/.

import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";
import { keyOf, uniform } from "../lib/common/rng.ts";
import { modelLosses, totalLoss } from "../lib/decoding/evaluate.ts";
import { generateTexts, type Sample, type TextOptions } from "../lib/decoding/generate.ts";
import { createPlainDecoder } from "../lib/decoding/plain_decoder.ts";
import { createTokenizer } from "../lib/text/tokenizer.ts";
import { characterMeta } from "./lib/text/support.ts";
import { assertRefused, type Ended, launch, oneProcess, temporaryFolder } from "./scripts.ts";
import { eager, saveModel, shaken } from "./support.ts";

const FOLDER = temporaryFolder();
const model = shaken({ block_size: 8 }); // 11 tokens
const META = characterMeta("\n abcdefghi");
const tokenizer = await createTokenizer(META);
await saveModel(join(FOLDER, "out"), model, { tokenizer: META });

/** A model whose vocabulary has no line break. */
const saveOneLine = () => saveModel(join(FOLDER, "one-line"), model, { tokenizer: characterMeta("j abcdefghi") });
await saveModel(join(FOLDER, "numbers"), model, { tokenizer: { kind: "ids", vocab_size: 11 } });

const runHere = oneProcess();

/** Run sample.ts, in a process of its own where there is an `input` for standard input. */
function sample(args: readonly string[], input?: string): Promise<Ended> {
  const all = ["--threads=1", ...args];
  if (input === undefined) return runHere("sample.ts", all, FOLDER);
  const { child, ended } = launch("sample.ts", all, { cwd: FOLDER });
  child.stdin!.end(input);
  return ended;
}

/** The same, where it must succeed; gives stdout. */
async function drawn(args: readonly string[], input?: string): Promise<string> {
  const ended = await sample(args, input);
  assert.equal(ended.code, 0, ended.stderr);
  return ended.stdout;
}

interface Line {
  sample: number;
  prompt: string;
  text: string;
  tokens: number[];
  logprobs: number[];
  finish: string;
  seconds: number;
}
const linesOf = (stdout: string): Line[] => {
  assert.ok(stdout.endsWith("\n"));
  return stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line));
};

const SMALL = ["--start=abc", "--num_samples=3", "--max_new_tokens=12"];

test("samples one after the other, each closed by a line; figures go to stderr", async () => {
  const { code, stdout, stderr } = await sample(SMALL);
  assert.equal(code, 0, stderr);
  const samples = stdout.split("\n---------------\n");
  assert.deepEqual(
    samples.map((text) => text.length),
    [15, 15, 15, 0],
  );
  for (const text of samples.slice(0, 3)) assert.match(text, /^abc[\n a-i]{12}$/);
  assert.equal(new Set(samples).size, 4);
  assert.match(stderr, /^36 tokens in \d+\.\d\d s, the first after \d+ ms: \d+\.\d tokens\/s \(cpu, compiled .*\)\n$/m);
});

test("json: an object a line, of the same texts", async () => {
  const [text, json] = await Promise.all([drawn(SMALL), drawn([...SMALL, "--json=true"])]);
  const lines = linesOf(json);
  assert.equal(text, lines.map((line) => `${line.prompt}${line.text}\n---------------\n`).join(""));
  for (const [i, { logprobs, ...line }] of lines.entries()) {
    assert.equal(logprobs.length, 12);
    assert.ok(logprobs.every((logprob) => logprob < 0));
    assert.equal(line.tokens.map((token) => META.itos[token]).join(""), line.text);
    const { text, tokens, seconds, ...rest } = line;
    assert.ok(seconds > 0);
    assert.deepEqual(rest, { sample: i, prompt: "abc", finish: "length" });
  }
});

/** What sample.ts has to write, by the plain decoder. */
async function expectedTexts(count: number, seed: number, options: Omit<TextOptions, "random">): Promise<string[]> {
  const random = (sample: number, step: number) => uniform(keyOf(seed, "sample", sample), step);
  const samples = Array.from({ length: count }, (_, i) => i);
  let last: readonly Sample[] = [];
  for await (last of generateTexts(createPlainDecoder(model), tokenizer, tokenizer.encode("abc"), samples, {
    ...options,
    random,
  }));
  return last.map(({ text }) => text);
}

test("every option arrives", async () => {
  const given = { max_new_tokens: 20, temperature: 1.7, top_k: 8, top_p: 0.9, min_p: 0.5, repetition_penalty: 1.4 };
  const off = { max_new_tokens: 12, temperature: 0.8, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1 };
  const args = Object.entries(given).map(([key, value]) => `--${key}=${value}`);
  const wanted = await expectedTexts(3, 7, { ...given, stop: ["\nh"] });
  for (const key of Object.keys(given) as (keyof typeof given)[]) {
    const without = await expectedTexts(3, 7, { ...given, [key]: off[key], stop: ["\nh"] });
    assert.notDeepEqual(without, wanted, `these texts don't show whether ${key} has an effect; take other numbers`);
  }
  for (const compile of [true, false]) {
    const all = ["--start=abc", "--num_samples=3", "--json=true", "--seed=7", "--stop=\\nh", `--compile=${compile}`];
    const found = linesOf(await drawn([...all, ...args])).map((line) => line.text);
    assert.deepEqual(found, wanted);
  }
  assert.deepEqual(
    linesOf(await drawn([...SMALL, "--json=true", "--temperature=0"])).map((line) => line.text),
    await expectedTexts(3, 1, { max_new_tokens: 12, top_k: 1 }),
  );
});

test("stop strings, escaped too", async () => {
  const whole = linesOf(await drawn([...SMALL, "--json=true"]))[0]!.text;
  const [a, b] = [whole.slice(2, 4), whole[6]!];
  const written = (stop: string) => stop.replaceAll("\n", "\\n").replaceAll(" ", "\\u0020");
  const [line] = linesOf(await drawn([...SMALL, "--json=true", `--stop=${written(a)},${written(b)}`]));
  const end = Math.min(whole.indexOf(a) + 2, whole.indexOf(b) + 1);
  assert.equal(line!.finish, "stop");
  assert.equal(line!.tokens.length, end);
  assert.ok(whole.startsWith(line!.text) && !line!.text.includes(a) && !line!.text.includes(b));
});

test("prompts from a file and from standard input", async () => {
  writeFileSync(join(FOLDER, "prompt.txt"), Buffer.from("\uFEFFabc\r\n", "utf16le")); // as Windows' programs write it
  const rest = SMALL.slice(1);
  const [flag, file, stdin] = await Promise.all([
    drawn(["--start=abc\n", ...rest]),
    drawn(["--start=FILE:prompt.txt", ...rest]),
    drawn(["--start=-", ...rest], "\uFEFFabc\r"),
  ]);
  assert.deepEqual([file, stdin], [flag, flag]);
});

test("without a prompt and a line break in the vocabulary it begins with a character that is there, and says so", async () => {
  await saveOneLine();
  const { code, stdout, stderr } = await sample(["--out_dir=one-line", "--max_new_tokens=3", "--num_samples=1"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^ [ a-j]{3}\n-+\n$/);
  assert.match(stderr, /^the vocabulary has no line break: starting with " "/m);
});

test("tokens without a text are written as their numbers, after the first of them where nothing was said", async () => {
  const few = ["--out_dir=numbers", "--num_samples=2", "--max_new_tokens=3"];
  const [numbers, json] = await Promise.all([drawn(few), drawn([...few, "--start=3 4,5", "--json=true"])]);
  assert.match(numbers, /^0( \d+){3}\n-{15}\n0( \d+){3}\n-{15}\n$/);
  const letters = linesOf(await drawn(["--start=bcd", "--num_samples=2", "--max_new_tokens=3", "--json=true"])); // the same tokens
  for (const [i, { tokens, text }] of linesOf(json).entries()) {
    assert.deepEqual(tokens, letters[i]!.tokens.map(Number));
    assert.equal(text, tokens.map((token) => ` ${token}`).join(""));
  }
});

test("more samples than run side by side", async () => {
  const settings = { max_new_tokens: 3, temperature: 0.8 };
  const many = linesOf(await drawn(["--start=abc", "--max_new_tokens=3", "--json=true", "--num_samples=20"]));
  assert.deepEqual(
    many.map(({ sample, text }) => [sample, text]),
    (await expectedTexts(20, 1337, settings)).map((text, i) => [i, text]),
  );
});

test("a reader that leaves early ends it quietly", async () => {
  const args = ["--threads=1", "--start=a", "--num_samples=1", "--max_new_tokens=100000"];
  const running = launch("sample.ts", args, { cwd: FOLDER });
  await running.until(/^a./);
  running.child.stdout!.destroy();
  const { code, stderr } = await running.ended;
  assert.equal(code, 0, stderr);
  assert.doesNotMatch(stderr, /Error|EPIPE/);
});

// ---- interactive -------------------------------------------------------------------------------------------------

test("interactive: a line, its continuation; a mistake costs one line; exit leaves", async () => {
  const args = ["--interactive=true", "--max_new_tokens=6"];
  const { code, stdout, stderr } = await sample(args, "abc\n\n%\nihg\nexit\nabc\n");
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^abc[\n a-i]{6}\nihg[\n a-i]{6}\n$/);
  assert.match(stderr, /^error: no token for the character "%"/m);
  assert.doesNotMatch(stdout, /> /);
  // the first line's text is that of --start, the second's has other random numbers
  const [first] = (await drawn(["--start=abc", "--max_new_tokens=6", "--num_samples=1"])).split("\n---------------\n");
  assert.ok(stdout.startsWith(`${first}\n`));
  const twice = linesOf(await drawn([...args, "--json=true", "--max_new_tokens=6"], "abc\nabc"));
  assert.deepEqual(
    twice.map((line) => line.sample),
    [0, 1],
  );
  assert.notEqual(twice[0]!.text, twice[1]!.text);
});

test("interactive: several samples a line where asked for", async () => {
  const stdout = await drawn(["--interactive=true", "--max_new_tokens=3", "--num_samples=2"], "abc\nabc\n");
  assert.match(stdout, /^(abc[\n a-i]{3}\n---------------\n){4}$/);
});

test("interactive: SIGINT stops the text, and at the prompt the program", async () => {
  const args = ["--threads=1", "--interactive=true", "--max_new_tokens=1000000"];
  const running = launch("sample.ts", args, { cwd: FOLDER });
  running.child.stdin!.write("abc\n");
  await running.until(/^abc[\s\S]{20}/);
  running.child.kill("SIGINT");
  running.child.stdin!.write("cba\n");
  await running.until(/\ncba[\s\S]{20}/);
  running.child.kill("SIGINT");
  running.child.stdin!.write("%\n"); // its error says that the second text has ended too
  await new Promise<void>((resolve) => {
    running.child.stderr!.on("data", (part: string) => part.includes('"%"') && resolve());
  });
  running.child.kill("SIGINT");
  const { code, signal, stderr } = await running.ended;
  assert.deepEqual([code, signal], [0, null], stderr);
  assert.match(stderr, /^\d+ tokens in /m);
});

// ---- evaluate ----------------------------------------------------------------------------------------------------

test("evaluate: as text and as JSON; the strides and the twin", async () => {
  writeFileSync(join(FOLDER, "text.txt"), `\uFEFF${"abc def\r\n".repeat(5)}`); // 40 bytes as the model reads it
  const run = (...args: string[]) => drawn(["--evaluate=text.txt", ...args]);
  const [text, json, plain] = await Promise.all([
    run(),
    run("--json=true"),
    run("--json=true", "--compile=false", "--stride=1"),
  ]);
  const result = JSON.parse(json);
  const { loss, perplexity, bits_per_byte } = result;
  const rest = { tokens: 40, bytes: 40, block_size: 8, stride: 4 };
  assert.deepEqual(result, { ...rest, loss, perplexity, bits_per_byte });
  assert.equal(
    text,
    `tokens:        40, all but the first predicted\nbytes:         40\nloss:          ${loss.toFixed(4)} nats/token\n` +
      `perplexity:    ${perplexity.toFixed(4)}\nbits per byte: ${bits_per_byte.toFixed(4)}\n`,
  );
  assert.ok(Math.abs(Math.exp(loss) - perplexity) < 1e-9);
  assert.ok(Math.abs((loss * 39) / 40 / Math.LN2 - bits_per_byte) < 1e-9);
  const losses = await modelLosses(eager, model);
  const ids = tokenizer.encode("abc def\n".repeat(5));
  for (const { stride, loss } of [result, JSON.parse(plain)]) {
    const expected = (await totalLoss(ids, losses, { block_size: 8, stride })) / 39;
    assert.ok(Math.abs(loss - expected) < 1e-5, `stride ${stride}: ${loss}, not ${expected}`); // single precision
  }
  assert.equal(JSON.parse(plain).stride, 1);
  assert.notEqual(JSON.parse(plain).loss, loss);
});

test("--save keeps what was printed, in a file named after the time", async () => {
  const { code, stdout, stderr } = await sample([...SMALL, "--save=true"]);
  assert.equal(code, 0, stderr);
  const [name, ...others] = readdirSync(join(FOLDER, "out", "samples"));
  assert.deepEqual(others, []); // and no other test's samples were kept
  assert.match(name!, /^sample_\d{8}_\d{6}\.txt$/);
  const path = join("out", "samples", name!);
  assert.ok(stderr.endsWith(`\nsaved ${path}\n`), stderr);
  assert.equal(readFileSync(join(FOLDER, path), "utf8"), stdout);
});

// ---- mistakes ----------------------------------------------------------------------------------------------------

test("mistakes are one line", async () => {
  await saveOneLine();
  mkdirSync(join(FOLDER, "empty"));
  writeFileSync(join(FOLDER, "one.txt"), "a");
  writeFileSync(join(FOLDER, "latin.txt"), Buffer.from("a\u00e9", "latin1"));
  writeFileSync(join(FOLDER, "windows.txt"), "a\r\nb");
  writeFileSync(join(FOLDER, "strange.txt"), "a%");
  const cases: [args: string[], message: RegExp][] = [
    [["--start=-"], /--start is empty/],
    [["--start=FILE:none.txt"], /no file none\.txt/],
    [["--start=a%"], /no token for the character "%"/],
    [["--out_dir=one-line", "--start=\n"], /no token for the character "\\n"/], // it was asked for
    [["--init_from=empty"], /no checkpoint in empty/],
    [["--stop=a\\x"], /--stop has \\x in "a\\\\x"; it knows \\n/],
    [["--evaluate=none.txt"], /no file none\.txt/],
    [["--evaluate=one.txt"], /too short/],
    [["--evaluate=latin.txt"], /latin\.txt is not UTF-8 text: bad byte at offset 1;/],
    [["--start=FILE:latin.txt"], /latin\.txt is not UTF-8 text: bad byte at offset 1;/],
    [["--evaluate=windows.txt", "--keep_crlf=true"], /no token for the character "\\r"/],
    [["--evaluate=strange.txt"], /no token for the character "%"/],
    [["--out_dir=numbers", "--start=O Romeo"], /the model's tokens have no text, and "O" is none of them; write their/],
    [
      ["--out_dir=numbers", "--evaluate=one.txt"],
      /--evaluate needs a text, and no file says what the tokens of numbers/,
    ],
    [["--out_dir=numbers", "--stop=3"], /--stop needs a text/],
    [["--interactive", "--start=a"], /--interactive reads its prompts.*leave --start out/],
  ];
  for (const [args, message] of cases) {
    const ended = await runHere("sample.ts", ["--threads=1", ...args], FOLDER);
    const stderr = ended.stderr.replace(/^overriding with .*\n( .*\n)*/, "");
    assertRefused({ ...ended, stderr }, message);
    assert.equal(ended.stdout, "");
  }
});
