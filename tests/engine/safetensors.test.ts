// engine/safetensors.ts: the format's bytes, and one line for every kind of damage.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { encodeSafetensors, type NamedTensor, SafetensorsFile, writeSafetensors } from "../../engine/safetensors.ts";
import { userError } from "../data/support.ts";
import { temporaryFolder } from "../scripts.ts";

const FOLDER = temporaryFolder();
let files = 0;

/** A file of a given header and bytes behind it, as another program could write it. */
function fileOf(header: unknown, bodyBytes: number, headerLength?: number): string {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerLength ?? json.length));
  return raw(Buffer.concat([length, json, Buffer.alloc(bodyBytes)]));
}

function raw(bytes: Uint8Array): string {
  const path = join(FOLDER, `file${files++}`);
  writeFileSync(path, bytes);
  return path;
}

const TENSORS: NamedTensor[] = [
  { name: "matrix", shape: [2, 3], data: Float32Array.of(1, -2.5, 3e-40, Number.POSITIVE_INFINITY, Number.NaN, -0) },
  { name: "scalar", shape: [], data: Float32Array.of(7) },
  { name: "empty", shape: [0, 4], data: new Float32Array(0) },
  { name: "naïve 😀.weight", shape: [2], data: Int32Array.of(-1, 2 ** 31 - 1) },
  { name: "view", shape: [2], data: Float32Array.of(9, 10, 11, 9).subarray(1, 3) },
];

test("what is written is read again, to the bit", () => {
  const path = join(FOLDER, "round_trip");
  writeSafetensors(path, TENSORS);
  const file = new SafetensorsFile(path);
  for (const { name, shape, data } of TENSORS) {
    const into = data instanceof Float32Array ? new Float32Array(data.length) : new Int32Array(data.length);
    file.read(name, shape, into);
    assert.ok(Buffer.from(into.buffer).equals(Buffer.from(data.slice().buffer)), name);
  }
  assert.deepEqual(
    [...file.entries.keys()],
    TENSORS.map(({ name }) => name),
  );
  assert.equal(file.size, readFileSync(path).length);
  file.close();
});

test("the bytes are the format's: header length, JSON padded with blanks to a multiple of 8, then the numbers", () => {
  const tensors = [
    { name: "b", shape: [2], data: Float32Array.of(1, -2) },
    { name: "a", shape: [], data: Int32Array.of(258) },
  ];
  const bytes = Buffer.concat(encodeSafetensors(tensors, { format: "pt" }));
  const json =
    '{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},' +
    '"a":{"dtype":"I32","shape":[],"data_offsets":[8,12]}}';
  const padded = json.padEnd(Math.ceil(json.length / 8) * 8, " ");
  assert.equal(bytes.readBigUInt64LE(), BigInt(padded.length));
  assert.equal(bytes.subarray(8, 8 + padded.length).toString(), padded);
  assert.equal(bytes.subarray(8 + padded.length).toString("hex"), "0000803f000000c002010000");
});

test("a file of another writer is read: other key order, no metadata, no padding, tensors in any order", () => {
  const header =
    '{"late":{"shape":[1],"data_offsets":[8,12],"dtype":"F32"},"early":{"data_offsets":[0,8],"dtype":"I32","shape":[2,1]}}';
  const path = fileOf(header, 0);
  writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.from("05000000060000000000e040", "hex")]));
  const file = new SafetensorsFile(path);
  const [late, early] = [new Float32Array(1), new Int32Array(2)];
  file.read("late", [1], late);
  file.read("early", [2, 1], early);
  file.close();
  assert.deepEqual([...late, ...early], [7, 5, 6]);
});

test("no tensors at all are a file, too", () => {
  const path = join(FOLDER, "none");
  writeSafetensors(path, []);
  const file = new SafetensorsFile(path);
  assert.equal(file.entries.size, 0);
  file.close();
});

test("a tensor that is not there, or has another shape or type, is one line", () => {
  const path = join(FOLDER, "shapes");
  writeSafetensors(path, TENSORS);
  const file = new SafetensorsFile(path);
  const into = new Float32Array(6);
  assert.throws(() => file.read("nothing", [2], into), userError(/shapes has no tensor nothing/));
  assert.throws(() => file.read("matrix", [3, 2], into), userError(/has matrix as F32 \[2,3\], not \[3,2\]/));
  assert.throws(() => file.read("matrix", [6], into), userError(/not \[6\]/));
  assert.throws(() => file.read("matrix", [2, 3], new Int32Array(6)), userError(/matrix as F32/));
  assert.deepEqual(into, new Float32Array(6));
  file.close();
});

const tensor = (shape: unknown, from: unknown, to: unknown, dtype: unknown = "F32") => ({
  dtype,
  shape,
  data_offsets: [from, to],
});
const DAMAGE: [string, () => string, RegExp][] = [
  ["no file", () => join(FOLDER, "nowhere"), /no file .*nowhere/],
  ["an empty file", () => raw(new Uint8Array(0)), /header is cut off/],
  ["less than a header length", () => raw(new Uint8Array(7)), /header is cut off/],
  ["a header length of 0", () => raw(new Uint8Array(8)), /header is cut off/],
  ["a header longer than the file", () => fileOf({}, 4, 50), /header is cut off/],
  ["a header of 2^63 bytes", () => raw(Buffer.from("0000000000000080 7b7d".replace(" ", ""), "hex")), /cut off/],
  ["a header that is not JSON", () => fileOf('{"a":', 4), /header is not JSON/],
  ["a header that is null", () => fileOf("null", 0), /header is not an object/],
  ["a header that is a list", () => fileOf("[]", 0), /header is not an object/],
  ["a header that is a number", () => fileOf("17", 0), /header is not an object/],
  ["an entry that is text", () => fileOf({ a: "F32" }, 4), /entry of a is not a float32 or int32/],
  ["an entry without a shape", () => fileOf({ a: { dtype: "F32", data_offsets: [0, 4] } }, 4), /entry of a/],
  ["another number format", () => fileOf({ a: tensor([2], 0, 4, "BF16") }, 4), /entry of a/],
  ["a negative size", () => fileOf({ a: tensor([-1, -1], 0, 4) }, 4), /entry of a/],
  ["a size that is no integer", () => fileOf({ a: tensor([0.5, 2], 0, 4) }, 4), /entry of a/],
  ["a negative offset", () => fileOf({ a: tensor([1], -4, 0) }, 4), /entry of a/],
  ["three offsets", () => fileOf({ a: { ...tensor([1], 0, 4), data_offsets: [0, 4, 8] } }, 4), /entry of a/],
  ["offsets the wrong way round", () => fileOf({ a: tensor([1], 4, 0) }, 4), /a \[1\] has -4 bytes, not 4/],
  ["fewer bytes than the shape needs", () => fileOf({ a: tensor([2, 3], 0, 20) }, 20), /has 20 bytes, not 24/],
  ["a shape of 2^53 numbers", () => fileOf({ a: tensor([2 ** 27, 2 ** 26], 0, 4) }, 4), /has 4 bytes, not 36028/],
  [
    "tensors that overlap",
    () => fileOf({ a: tensor([2], 0, 8), b: tensor([2], 4, 12) }, 12),
    /b overlaps another tensor or leaves a gap/,
  ],
  ["a gap", () => fileOf({ a: tensor([1], 0, 4), b: tensor([1], 8, 12) }, 12), /b overlaps .* or leaves a gap/],
  ["a gap before the first", () => fileOf({ a: tensor([1], 4, 8) }, 8), /a overlaps .* or leaves a gap/],
  ["a file that was cut off", () => fileOf({ a: tensor([4], 0, 16) }, 15), /length is not what its header says/],
  ["bytes behind the last tensor", () => fileOf({ a: tensor([4], 0, 16) }, 17), /length is not what its header says/],
];

for (const [what, make, message] of DAMAGE) {
  test(`${what} is one line`, () => {
    assert.throws(() => new SafetensorsFile(make()), userError(message));
  });
}

test("a header length of 90 MB in a file of 100 MB is read, 200 MB in 300 MB is refused without reading it", () => {
  const path = raw(Buffer.alloc(8));
  const grow = (header: bigint, size: number) => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(header);
    writeFileSync(path, length);
    const file = openSync(path, "r+");
    ftruncateSync(file, size); // a hole: takes no room on the disk
    closeSync(file);
  };
  grow(90_000_000n, 100_000_000);
  assert.throws(() => new SafetensorsFile(path), userError(/not JSON/));
  grow(200_000_000n, 300_000_000);
  const before = process.memoryUsage().arrayBuffers;
  assert.throws(() => new SafetensorsFile(path), userError(/cut off/));
  assert.ok(process.memoryUsage().arrayBuffers - before < 1e6, "memory was taken for the header");
});

test("a file that is refused is closed again", { skip: process.platform !== "linux" && "counts /proc/self/fd" }, () => {
  const path = fileOf("null", 0);
  const before = readdirSync("/proc/self/fd").length;
  for (let i = 0; i < 50; i++) assert.throws(() => new SafetensorsFile(path));
  assert.ok(readdirSync("/proc/self/fd").length <= before + 5);
});

test("the checksum is that of the whole file", () => {
  const path = raw(Buffer.concat([Buffer.from("0200000000000000", "hex"), Buffer.from("{}")]));
  const file = new SafetensorsFile(path);
  // by sha256sum
  assert.equal(file.checksum(), "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd");
  file.close();
});

test("a folder instead of a file is one line", () => {
  const path = join(FOLDER, "folder");
  mkdirSync(path);
  assert.throws(() => new SafetensorsFile(path), userError(/folder/));
});
