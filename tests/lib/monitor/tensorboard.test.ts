// lib/monitor/tensorboard.ts and lib/monitor/tfrecord.ts: the file's bytes, read by a reader of its own here that knows no more
// than protobuf's wire format, and what Python's tensorboard makes of them.

import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";

import type { Callback, Metrics } from "../../../lib/monitor/callback.ts";
import { histogram, tensorboard } from "../../../lib/monitor/tensorboard.ts";
import { crc32c, frame } from "../../../lib/monitor/tfrecord.ts";
import { pythonWith, runPython } from "../../python.ts";
import { temporaryFolder } from "../../scripts.ts";
import { aRun, end, evaluate, step as stepOf } from "./support.ts";

const FOLDER = temporaryFolder();
const newFolder = () => mkdtempSync(join(FOLDER, "run-"));
const TEXT = "To be,\n    or *not* to be:\n\n<b>&amp;</b> # that\n~~~ is\n```\nthe question, naïve 東京 🙂\n";

// ---- a reader of its own -----------------------------------------------------------------------------------------

type Fields = Map<number, (number | Buffer)[]>;

/** A protobuf message, by field number: varints, doubles and floats as numbers, all else as bytes. */
function decode(bytes: Buffer): Fields {
  const fields: Fields = new Map();
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = varint();
    let value: number | Buffer;
    if ((key & 7) === 0) value = varint();
    else if ((key & 7) === 1) [value, at] = [bytes.readDoubleLE(at), at + 8];
    else if ((key & 7) === 5) [value, at] = [bytes.readFloatLE(at), at + 4];
    else {
      assert.equal(key & 7, 2);
      const length = varint();
      [value, at] = [bytes.subarray(at, at + length), at + length];
    }
    fields.set(key >> 3, [...(fields.get(key >> 3) ?? []), value]);
  }
  assert.equal(at, bytes.length);
  return fields;
}

/** The inner message or bytes at a path of field numbers; undefined where there is none. */
function find(fields: Fields, ...path: number[]): number | Buffer | undefined {
  const value = fields.get(path[0]!)?.[0];
  return path.length === 1 || value === undefined ? value : find(decode(value as Buffer), ...path.slice(1));
}

/** CRC-32C a bit at a time, masked: without the table of the code that is tested. */
function maskedBitwise(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  const plain = BigInt((crc ^ 0xffffffff) >>> 0);
  return Number((((plain >> 15n) | (plain << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

function records(bytes: Buffer): Buffer[] {
  const all: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    assert.equal(bytes.readUInt32LE(at + 8), maskedBitwise(bytes.subarray(at, at + 8)));
    const record = bytes.subarray(at + 12, at + 12 + length);
    assert.equal(bytes.readUInt32LE(at + 12 + length), maskedBitwise(record));
    all.push(record);
    at += 16 + length;
  }
  return all;
}

const filesOf = (outDir: string) =>
  readdirSync(join(outDir, "tensorboard"))
    .sort()
    .map((name) => join(outDir, "tensorboard", name));

/** The events of a run's only file, a line each: "START 0", "step 3 loss=2.5 lr=0.5". */
function told(outDir: string): string[] {
  const files = filesOf(outDir);
  assert.equal(files.length, 1);
  return records(readFileSync(files[0]!)).map((record) => {
    const event = decode(record);
    assert.ok(Math.abs((find(event, 1) as number) - Date.now() / 1000) < 3600, "wall time, in seconds");
    const version = find(event, 3);
    if (version) return `version ${version}`;
    if (find(event, 7)) return `${find(event, 7, 1) === 1 ? "START" : "?"} ${find(event, 2)}`;
    const values = (decode(find(event, 5) as Buffer).get(1) ?? []).map((bytes) => {
      const value = decode(bytes as Buffer);
      return `${find(value, 1)}=${find(value, 2) ?? find(value, 9, 1, 1)}`;
    });
    return [`step ${find(event, 2)}`, ...values].join(" ");
  });
}

// ---- the frame ---------------------------------------------------------------------------------------------------

test("crc32c gives the values of RFC 3720", () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
  assert.equal(crc32c(new Uint8Array(0)), 0);
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(255)), 0x62a8ab43);
  assert.equal(crc32c(ascending), 0x46dd794e);
  assert.equal(crc32c(ascending.toReversed()), 0x113fdb5c);
});

test("a frame is a length, its checksum, the record, its checksum; each can be read back", () => {
  const all = [Buffer.alloc(0), Buffer.from("a"), Buffer.alloc(1000, 7)];
  const bytes = Buffer.concat(all.map(frame));
  assert.equal(bytes.length, 3 * 16 + 1001);
  assert.deepEqual(records(bytes), all);
});

// ---- histograms --------------------------------------------------------------------------------------------------

const counts = (numbers: readonly number[]) =>
  Array.from(histogram(Float32Array.from(numbers)).filter((_, i) => i % 3 === 2));
const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

test("a histogram counts every finite number once, between the least and the greatest", () => {
  const numbers = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i * i) * 3 - 1);
  const rows = histogram(numbers);
  assert.equal(rows.length, 90);
  assert.equal(rows[0], Math.min(...numbers));
  assert.equal(rows[88], Math.max(...numbers));
  for (let row = 0; row < 30; row++) {
    const [left, right, count] = rows.subarray(row * 3);
    if (row > 0) assert.equal(left, rows[row * 3 - 2]);
    const inside = numbers.filter((number) => number >= left! && (number < right! || (row === 29 && number === right)));
    assert.ok(Math.abs(count! - inside.length) <= 1, `row ${row}`); // a number at an edge may round to either side
  }
  assert.equal(sum(counts([...numbers])), 1000);
  // 61 whole numbers in buckets of width 2: two in each, and 60 with 58 and 59
  assert.deepEqual(counts(Array.from({ length: 61 }, (_, i) => i)), [...Array(29).fill(2), 3]);
});

test("a histogram of the same number, of none, and with numbers that are not finite", () => {
  assert.deepEqual(counts([2.5, 2.5, 2.5]), [...Array(29).fill(0), 3]);
  assert.deepEqual([...histogram(Float32Array.of(2.5)).subarray(0, 3)], [2.5, 2.5, 0]);
  assert.deepEqual([...histogram(new Float32Array(0))], Array(90).fill(0));
  assert.deepEqual([...histogram(Float32Array.of(Number.NaN, Number.POSITIVE_INFINITY))], Array(90).fill(0));
  const mixed = histogram(Float32Array.of(Number.NaN, 1, Number.NEGATIVE_INFINITY, 2, Number.POSITIVE_INFINITY));
  assert.deepEqual([mixed[0], mixed[88]], [1, 2]);
  assert.deepEqual([mixed[2], mixed[89]], [1, 1]);
  // the least that float32 can tell apart, and the most
  assert.equal(sum(counts([0, 1.401298464324817e-45])), 2);
  assert.equal(sum(counts([-3.4028234663852886e38, 0, 3.4028234663852886e38])), 3);
});

// ---- the file ----------------------------------------------------------------------------------------------------

/** A run whose clock stands still, until it is set: nothing is written but what has to be. */
async function started(t: TestContext, outDir: string, startIter = 0) {
  const clock = { now: Date.now() };
  t.mock.method(Date, "now", () => clock.now);
  const callback = tensorboard({ histogramInterval: 0 });
  await callback.onTrainStart!(aRun(outDir, { startIter, resumed: startIter > 0 }));
  return { callback, clock };
}

const step = (callback: Callback, iter: number, metrics: Metrics = { loss: iter / 2 }) =>
  stepOf(callback, iter, metrics);

test("steps wait in memory until an evaluation, a checkpoint, the end, or until a second has passed", async (t) => {
  const outDir = newFolder();
  const { callback, clock } = await started(t, outDir);
  const head = ["version brain.Event:2", "START 0"];
  assert.deepEqual(told(outDir), head);
  const [name] = readdirSync(join(outDir, "tensorboard"));
  const [, seconds, rest] = /^events\.out\.tfevents\.(\d{10})\.(.*)$/.exec(name!)!;
  assert.ok(Math.abs(Number(seconds) - clock.now / 1000) < 60);
  assert.equal(rest, `${hostname()}.${process.pid}.v2`);

  await step(callback, 0);
  assert.deepEqual(told(outDir), head);
  await evaluate(callback, 1, { sample: "x" });
  const upTo1 = [...head, "step 0 loss=0", "step 1 val/loss=2.5 sample=text"];
  assert.deepEqual(told(outDir), upTo1);
  await step(callback, 1);
  await callback.onCheckpoint!({ iter: 2, path: "ckpt.json", seconds: 0.5 });
  assert.equal(told(outDir).at(-1), "step 1 loss=0.5");
  await step(callback, 2);
  clock.now += 999;
  await step(callback, 3);
  assert.equal(told(outDir).length, 5);
  clock.now += 1;
  await step(callback, 4);
  assert.equal(told(outDir).at(-1), "step 4 loss=2");
  await step(callback, 5, { loss: Number.NaN, lr: Number.POSITIVE_INFINITY });
  await end(callback, 6);
  assert.deepEqual(told(outDir).slice(5), [
    "step 2 loss=1",
    "step 3 loss=1.5",
    "step 4 loss=2",
    "step 5 loss=NaN lr=Infinity",
  ]);
});

test("a roll back is told before the first step that comes again, whether a step or an evaluation is the first", async (t) => {
  const outDir = newFolder();
  const { callback } = await started(t, outDir);
  for (const iter of [0, 1, 2, 3]) await step(callback, iter);
  await evaluate(callback, 4); // nothing comes again here
  await step(callback, 4);
  await evaluate(callback, 2);
  for (const iter of [2, 3]) await step(callback, iter);
  await step(callback, 1);
  await end(callback, 2);
  assert.deepEqual(told(outDir).slice(6), [
    "step 4 val/loss=2.5",
    "step 4 loss=2",
    "START 2",
    "step 2 val/loss=2.5",
    "step 2 loss=1",
    "step 3 loss=1.5",
    "START 1",
    "step 1 loss=0.5",
  ]);
});

test("a resumed run adds a file that begins with the step it goes on from", async (t) => {
  const outDir = newFolder();
  mkdirSync(join(outDir, "tensorboard"));
  const earlier = join(outDir, "tensorboard", "events.out.tfevents.1700000000.other.1.v2");
  writeFileSync(earlier, "as it was");
  const { callback } = await started(t, outDir, 7);
  await step(callback, 7);
  await end(callback, 8);
  const [first, second] = filesOf(outDir);
  assert.equal(readFileSync(first!, "utf8"), "as it was");
  assert.equal(find(decode(records(readFileSync(second!))[1]!), 2), 7);
  assert.equal(find(decode(records(readFileSync(second!))[1]!), 7, 1), 1);
});

test("histograms are written where there are some, at every histogramInterval-th step or at all", async () => {
  for (const [histogramInterval, expected] of [
    [4, [0, 8]],
    [0, [0, 3, 8]],
  ] as const) {
    const outDir = newFolder();
    const callback = tensorboard({ histogramInterval });
    await callback.onTrainStart!(aRun(outDir));
    for (let iter = 0; iter < 10; iter++) {
      const some = [0, 3, 8].includes(iter);
      const histograms = new Map(some ? [["weights/a", Float32Array.of(1, 2)]] : []);
      await callback.onStep!({ iter, metrics: { loss: 1 }, gradScale: 1, histograms });
    }
    await end(callback, 10);
    const written = told(outDir).filter((line) => line.endsWith("loss=1 weights/a=histograms"));
    assert.deepEqual(
      written.map((line) => Number(line.split(" ")[1])),
      expected,
    );
  }
});

test("a folder that can't be made is an error that names it", async () => {
  const outDir = newFolder();
  writeFileSync(join(outDir, "tensorboard"), "a file in the folder's place");
  const start = async () => tensorboard({ histogramInterval: 0 }).onTrainStart!(aRun(outDir));
  await assert.rejects(start, { name: "UserError", message: /^can't write .*tensorboard.*: EEXIST/ });
});

const FULL = { skip: !existsSync("/dev/full") && "no /dev/full here" };

test("a full disk is an error that names the file", FULL, async (t) => {
  const outDir = newFolder();
  const { callback } = await started(t, outDir);
  const [file] = filesOf(outDir);
  rmSync(file!);
  symlinkSync("/dev/full", file!);
  await step(callback, 0);
  const save = async () => callback.onCheckpoint!({ iter: 1, path: "ckpt.json", seconds: 0 });
  await assert.rejects(save, { name: "UserError", message: /^can't write .*tfevents.*: ENOSPC/ });
});

// ---- Python's reader ---------------------------------------------------------------------------------------------

const found = pythonWith(["tensorboard"]);
test("Python's tensorboard reads it: a run that was killed, resumed and rolled back", {
  skip: "missing" in found && found.missing,
}, async (t) => {
  if ("missing" in found) return;
  const outDir = newFolder();
  const metricsAt = (iter: number) => ({
    loss: 4 / (iter + 1),
    lr: 1e-3 * iter,
    "layer/a.weight": iter === 3 ? Number.NaN : -1,
  });
  const weights = Float32Array.from({ length: 500 }, (_, i) => Math.cos(i));
  const histograms = new Map([["weights/a", weights]]);
  const make = async (callback: Callback, iters: number[], scale: number) => {
    for (const iter of iters) {
      const metrics = { ...metricsAt(iter), loss: metricsAt(iter).loss * scale };
      await callback.onStep!({ iter, metrics, gradScale: 1, histograms: iter % 2 === 0 ? histograms : new Map() });
    }
  };
  const evaluateBoth = (callback: Callback, iter: number, scale: number) => {
    const metrics = { "train/loss": 2 * scale, "val/loss": 3 * scale };
    return callback.onEvaluate!({ iter, metrics, best: true, texts: new Map([["sample", `${TEXT}${scale}`]]) });
  };
  const first = (await started(t, outDir)).callback;
  await make(first, [0, 1, 2, 3, 4], 100);
  await evaluateBoth(first, 5, 100);
  await make(first, [5, 6, 7], 100);
  await first.onCheckpoint!({ iter: 8, path: "ckpt.json", seconds: 0 });
  const [killed] = filesOf(outDir);
  renameSync(killed!, join(outDir, "tensorboard", "events.out.tfevents.1700000000.other.1.v2")); // the earlier one
  truncateSync(filesOf(outDir)[0]!, statSync(filesOf(outDir)[0]!).size - 5);
  const second = (await started(t, outDir, 3)).callback;
  await make(second, [3, 4], 10);
  await evaluateBoth(second, 5, 10);
  await make(second, [5, 6], 10);
  await evaluateBoth(second, 5, 1); // rolled back
  await make(second, [5, 6], 1);
  await end(second, 7);

  const program = `
import html, json, re, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as OfTheServer
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.util import tensor_util
ea = EventAccumulator(sys.argv[1], size_guidance=dict(scalars=0, tensors=0)); ea.Reload()
server = OfTheServer(sys.argv[1], size_guidance=dict(tensors=0), tensor_size_guidance=dict(scalars=0, text=0, histograms=0)); server.Reload()
number = lambda x: float(x) if x == x else "NaN"
def served(tag):
    return [[e.step, tensor_util.make_ndarray(e.tensor_proto)] for e in server.Tensors(tag)]
def shown(text):
    return html.unescape(re.fullmatch(r"<pre><code>(.*)</code></pre>", markdown_to_safe_html(text), re.S)[1])
of = {tag: server.SummaryMetadata(tag).plugin_data.plugin_name for tag in server.Tags()["tensors"]}
print(json.dumps(dict(
    scalars={tag: [[e.step, number(e.value)] for e in ea.Scalars(tag)] for tag in ea.Tags()["scalars"]},
    served={tag: [[step, number(value.item())] for step, value in served(tag)] for tag in of if of[tag] == "scalars"},
    texts={tag: [[step, shown(value.item())] for step, value in served(tag)] for tag in of if of[tag] == "text"},
    histograms={tag: [[step, value.tolist()] for step, value in served(tag)] for tag in of if of[tag] == "histograms"})))`;
  const said = (await runPython(found.python, program, [join(outDir, "tensorboard")])) as Record<string, unknown>;
  const scaleOf = [100, 100, 100, 10, 10, 1, 1];
  const series = (name: "loss" | "lr" | "layer/a.weight") =>
    scaleOf.map((scale, iter) => {
      const value = Math.fround(metricsAt(iter)[name] * (name === "loss" ? scale : 1));
      return [iter, Number.isNaN(value) ? "NaN" : value];
    });
  const expected = {
    loss: series("loss"),
    lr: series("lr"),
    "layer/a.weight": series("layer/a.weight"),
    "train/loss": [[5, 2]],
    "val/loss": [[5, 3]],
  };
  assert.deepEqual(said.scalars, expected);
  assert.deepEqual(said.served, expected);
  assert.deepEqual(said.texts, { sample: [[5, `${TEXT}1\n`]] }); // a code block ends with a line break
  const rows = Array.from({ length: 30 }, (_, row) => [...histogram(weights).subarray(row * 3, row * 3 + 3)]);
  assert.deepEqual(said.histograms, { "weights/a": [0, 2, 4, 6].map((iter) => [iter, rows]) });
});
