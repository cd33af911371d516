// lib/common/safetensors.ts: the format's bytes, and one line for every kind of damage.

import assert from "node:assert/strict";
import { closeSync, ftruncateSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import {
  encodeSafetensors,
  type NamedTensor,
  openSafetensors,
  SafetensorsFile,
  writeSafetensors,
} from "../../../lib/common/safetensors.ts";
import { temporaryFolder } from "../../scripts.ts";
import { userError } from "../text/support.ts";

const FOLDER = temporaryFolder();
let files = 0;

/** A file of a given header and bytes behind it, as another program could write it. */
function fileOf(header: unknown, bodyBytes: number, headerLength?: number): string {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  return fileOfBytes(json, Buffer.alloc(bodyBytes), headerLength);
}

function fileOfBytes(header: Uint8Array, body: Uint8Array = Buffer.of(), headerLength = header.length): string {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(headerLength));
  return raw(Buffer.concat([length, header, body]));
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
const ONE = JSON.stringify(tensor([1], 0, 4));
const DAMAGE: [string, () => string, RegExp][] = [
  ["no file", () => join(FOLDER, "nowhere"), /no file .*nowhere/],
  ["a folder", () => FOLDER, /EISDIR|folder/],
  ["less than a header length", () => raw(new Uint8Array(7)), /header is cut off/],
  ["a header longer than the file", () => fileOf({}, 4, 50), /header is cut off/],
  ["a header of 2^63 bytes", () => raw(Buffer.from("0000000000000080 7b7d".replace(" ", ""), "hex")), /cut off/],
  ["a header that is not JSON", () => fileOf('{"a":', 4), /header is not JSON/],
  ["a header that is null", () => fileOf("null", 0), /header is not an object/],
  ["a header that is not UTF-8", () => fileOfBytes(Buffer.from("7b22ff223a317d", "hex")), /header is not UTF-8/],
  ["a header that begins with a blank", () => fileOf(" {}", 0), /header is not an object/],
  ["a header of a million brackets", () => fileOf(`{"a":${"[".repeat(1e6)}`, 0), /nested deeper than the format/],
  ["a name twice, once escaped", () => fileOf(`{"a\\"":${ONE},"\\u0061\\"":${ONE}}`, 4), /header has a" twice/],
  ["__proto__ twice", () => fileOf(`{"__proto__":${ONE},"__proto__":${ONE}}`, 4), /header has __proto__ twice/],
  ["a field twice", () => fileOf('{"a":{"dtype":"F32","dtype":"I32"}}', 4), /header has dtype twice/],
  ["an entry that is text", () => fileOf({ a: "F32" }, 4), /the entry of a is not a tensor's: .*expected object/],
  ["an unknown type", () => fileOf({ a: tensor([1], 0, 4, "F33") }, 4), /entry of a is not a tensor's: dtype/],
  ["an inherited type", () => fileOf({ a: tensor([1], 0, 4, "toString") }, 4), /entry of a is not a tensor's: dtype/],
  ["a surplus field", () => fileOf({ a: { ...tensor([1], 0, 4), place: 1 } }, 4), /entry of a .*"place"/],
  [
    "a surplus field __proto__",
    () => fileOf('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"__proto__":{}}}', 4),
    /entry of a .*"__proto__"/,
  ],
  ["a tensor named constructor", () => fileOf({ constructor: tensor([3], 0, 4) }, 4), /constructor \[3\] has 4 bytes/],
  ["a name of two lines", () => fileOf({ "a\nb\u2028": 1 }, 0), /entry of a\\u\{a\}b\\u\{2028\} is not/],
  ["a long name", () => fileOf({ ["a".repeat(9999)]: 1 }, 0), /entry of a{200}\.\.\. is not/],
  ["half a byte", () => fileOf({ a: tensor([1], 0, 1, "F4") }, 1), /a \[1\] has 1 bytes, not 0\.5/],
  ["a negative size", () => fileOf({ a: tensor([-1, -1], 0, 4) }, 4), /entry of a/],
  ["three offsets", () => fileOf({ a: { ...tensor([1], 0, 4), data_offsets: [0, 4, 8] } }, 4), /entry of a/],
  ["offsets the wrong way round", () => fileOf({ a: tensor([1], 4, 0) }, 4), /a \[1\] has -4 bytes, not 4/],
  ["fewer bytes than the shape needs", () => fileOf({ a: tensor([2, 3], 0, 20) }, 20), /has 20 bytes, not 24/],
  [
    "a shape of 2^53 numbers",
    () => fileOf({ a: tensor([2 ** 27, 2 ** 26], 0, 4) }, 4),
    /a \[134217728,67108864\] is too large/,
  ],
  ["the same with a 0 at its end", () => fileOf({ a: tensor([2 ** 52, 2 ** 52, 0], 0, 0) }, 0), /too large/],
  ["offsets behind the end", () => fileOf({ a: tensor([2 ** 40], 0, 2 ** 42) }, 4), /length is not what its header/],
  [
    "tensors that overlap",
    () => fileOf({ a: tensor([2], 0, 8), b: tensor([2], 4, 12) }, 12),
    /b overlaps another tensor or leaves a gap/,
  ],
  ["a gap", () => fileOf({ a: tensor([1], 0, 4), b: tensor([1], 8, 12) }, 12), /b overlaps .* or leaves a gap/],
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
    writeFileSync(path, Buffer.concat([length, Buffer.from("{")]));
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
  assert.ok(readdirSync("/proc/self/fd").length <= before + 5, "files stay open");
});

test("the checksum is that of the whole file", async () => {
  const path = raw(Buffer.concat([Buffer.from("0200000000000000", "hex"), Buffer.from("{}")]));
  const file = new SafetensorsFile(path);
  // by sha256sum
  assert.equal(await file.checksum(), "411a485216e432ece6b9af94fa32154cf79a2a56d4f81266baa50063f45092bd");
  file.close();
});

// ---- other types of number ---------------------------------------------------------------------------------------

/** The bits that reading these bytes as `dtype` gives, as float32. */
function widened(dtype: string, bytes: Uint8Array, count: number): Uint32Array {
  const json = Buffer.from(JSON.stringify({ a: tensor([count], 0, bytes.length, dtype) }));
  const file = new SafetensorsFile(fileOfBytes(json, bytes));
  const into = new Float32Array(count);
  file.read("a", [count], into);
  file.close();
  return new Uint32Array(into.buffer);
}

const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;

test("every float16 is read to the bit: subnormals, infinities and NaNs", () => {
  const all = Uint16Array.from({ length: 1 << 16 }, (_, i) => i);
  const bits = widened("F16", new Uint8Array(all.buffer), all.length);
  for (const half of all) {
    const [sign, exponent, fraction] = [half >> 15 ? -1 : 1, (half >> 10) & 31, half & 1023];
    if (exponent === 31 && fraction > 0) {
      assert.equal(bits[half]! >>> 13, ((half & 0x8000) << 3) | 0x3fc00 | fraction, `NaN ${half}`);
      assert.equal(bits[half]! & 0x1fff, 0);
      continue;
    }
    const finite = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24; // by definition
    const value = sign * (exponent === 31 ? Number.POSITIVE_INFINITY : finite);
    if (bits[half] !== bitsOf(value)) assert.fail(`float16 ${half.toString(16)} is ${value}, read as ${bits[half]}`);
  }
});

test("a float16 tensor larger than a piece is read to its last number", () => {
  const count = (1 << 21) + 12_345; // 4 MiB and a bit
  const halves = Uint16Array.from({ length: count }, (_, i) => (i * 31) & 0x7bff);
  const bits = widened("F16", new Uint8Array(halves.buffer), count);
  const all = widened("F16", new Uint8Array(Uint16Array.from({ length: 1 << 16 }, (_, i) => i).buffer), 1 << 16);
  const wrong = bits.findIndex((value, i) => value !== all[halves[i]!]);
  assert.equal(wrong, -1);
});

test("bfloat16 is the upper half of a float32, float64 is rounded", () => {
  const upper = [0x3f80, 0xc020, 0x0001, 0x7f80, 0xffc1, 0x8000];
  const bits = widened("BF16", new Uint8Array(Uint16Array.from(upper).buffer), upper.length);
  assert.deepEqual(
    [...bits].map((value) => value.toString(16)),
    [...["3f800000", "c0200000", "10000", "7f800000", "ffc10000", "80000000"]],
  );
  const doubles = Float64Array.of(0.1, -1e300, 1e-45, Number.NaN);
  const rounded = [0.1, Number.NEGATIVE_INFINITY, 1e-45, Number.NaN].map(bitsOf);
  assert.deepEqual([...widened("F64", new Uint8Array(doubles.buffer), 4)], rounded);
});

test("reading other floats takes no second copy of the tensor", () => {
  const count = 16e6;
  const json = Buffer.from(JSON.stringify({ a: tensor([count], 0, 2 * count, "F16") }));
  const path = fileOfBytes(json);
  const hole = openSync(path, "r+");
  ftruncateSync(hole, 8 + json.length + 2 * count); // zeros that take no room on the disk
  closeSync(hole);
  const file = new SafetensorsFile(path);
  const into = new Float32Array(count).fill(1);
  const before = process.memoryUsage().arrayBuffers;
  file.read("a", [count], into);
  const taken = process.memoryUsage().arrayBuffers - before;
  assert.ok(taken < 6e6, `${taken} bytes were taken`); // one piece and the table; nothing is freed in between
  const wrong = into.findIndex((value) => value !== 0);
  assert.equal(wrong, -1);
  file.close();
});

test("tensors of types that can't be read may stand in a file, and are refused one by one", () => {
  const types = { U8: 1, BOOL: 1, I8: 1, I16: 2, U16: 2, U32: 4, I64: 8, U64: 8, C64: 8, F8_E4M3: 1, F8_E5M2: 1 };
  const header: Record<string, unknown> = {};
  let at = 0;
  for (const [type, size] of Object.entries(types)) {
    header[type] = tensor([3, 1], at, at + 3 * size, type);
    at += 3 * size;
  }
  header.good = tensor([1], at, at + 4);
  const file = new SafetensorsFile(fileOf(header, at + 4));
  for (const type of Object.keys(types)) {
    assert.throws(
      () => file.read(type, [3, 1], new Float32Array(3)),
      userError(new RegExp(`has ${type} as ${type}, `)),
    );
    assert.deepEqual(file.entries.get(type)?.shape, [3, 1]);
  }
  file.read("good", [1], new Float32Array(1));
  assert.throws(() => file.read("good", [1], new Float32Array(2)), /internal/); // would read what is not its own
  file.close();
});

test("names that JavaScript's objects have themselves are names like others", () => {
  const path = join(FOLDER, "proto");
  const names = ["__proto__", "constructor", "toString"];
  writeSafetensors(
    path,
    names.map((name, i) => ({ name, shape: [1], data: Float32Array.of(i) })),
  );
  const file = new SafetensorsFile(path);
  assert.deepEqual([...file.entries.keys()], names);
  const into = new Float32Array(1);
  for (const [i, name] of names.entries()) {
    file.read(name, [1], into);
    assert.equal(into[0], i);
  }
  assert.throws(() => file.read("valueOf", [1], into), userError(/no tensor valueOf/));
  file.close();
});

test("a place is where the bytes of a float32 tensor lie in the file", () => {
  const path = join(FOLDER, "places");
  writeSafetensors(path, TENSORS);
  const file = new SafetensorsFile(path);
  const place = file.place("view")!;
  assert.deepEqual({ path: place.path, bytes: place.bytes }, { path, bytes: 8 });
  const bytes = readFileSync(path).subarray(place.offset, place.offset + place.bytes);
  assert.deepEqual([bytes.readFloatLE(0), bytes.readFloatLE(4)], [10, 11]);
  assert.equal(file.place("naïve 😀.weight"), undefined);
  assert.equal(file.place("nothing"), undefined);
  file.close();
});

// ---- shards ------------------------------------------------------------------------------------------------------

/** A folder with an index and shards that each hold float32 tensors of one number: their place in all. */
function shards(weightMap: unknown, contents: Record<string, string[]>): string {
  const folder = join(FOLDER, `shards${files++}`);
  mkdirSync(folder);
  let number = 0;
  for (const [file, names] of Object.entries(contents)) {
    const tensors = names.map((name) => ({ name, shape: [1], data: Float32Array.of(number++) }));
    writeSafetensors(join(folder, file), tensors);
  }
  const text =
    typeof weightMap === "string" ? weightMap : JSON.stringify({ metadata: { a: 1 }, weight_map: weightMap });
  writeFileSync(join(folder, "model.safetensors.index.json"), text);
  return folder;
}

test("shards are read as one", () => {
  const map = { b: "two", a: "one", __proto__x: "one" };
  const folder = shards(JSON.stringify({ weight_map: map }).replace("__proto__x", "__proto__"), {
    one: ["a", "__proto__"],
    two: ["b"],
  });
  const tensors = openSafetensors(folder);
  assert.equal(tensors.path, folder);
  assert.deepEqual([...tensors.entries.keys()].sort(), ["__proto__", "a", "b"]);
  for (const [i, name] of ["a", "__proto__", "b"].entries()) {
    const into = new Float32Array(1);
    tensors.read(name, [1], into);
    assert.equal(into[0], i);
    const { path, offset } = tensors.place(name)!;
    assert.equal(path, join(folder, name === "b" ? "two" : "one"));
    assert.equal(readFileSync(path).readFloatLE(offset), i);
  }
  assert.throws(() => tensors.read("c", [1], new Float32Array(1)), userError(/shards\d+ has no tensor c/));
  assert.equal(tensors.place("c"), undefined);
  tensors.close();
});

test("a file, and a folder with model.safetensors, are opened as they are", () => {
  const folder = shards({}, { "model.safetensors": ["a"] });
  for (const path of [folder, join(folder, "model.safetensors")]) {
    const tensors = openSafetensors(path);
    assert.equal(tensors.path, join(folder, "model.safetensors"));
    assert.deepEqual([...tensors.entries.keys()], ["a"]);
    tensors.close();
  }
  const empty = join(FOLDER, "nothing in it");
  mkdirSync(empty);
  assert.throws(() => openSafetensors(empty), userError(/no model\.safetensors in .*nothing in it/));
  assert.throws(() => openSafetensors(join(FOLDER, "nowhere")), userError(/no file .*nowhere/));
});

const INDEX_DAMAGE: [string, unknown, Record<string, string[]>, RegExp][] = [
  [
    "a shard that is not there",
    { a: "one", b: "two" },
    { one: ["a"] },
    /no file .*two, a shard that .*index\.json names/,
  ],
  ["a shard outside", { a: "../x" }, {}, /names no file of this folder for a: \.\.\/x/],
  ["a shard with an absolute path", { a: "/etc/passwd" }, {}, /names no file of this folder for a/],
  ["a shard's name with a 0 in it", { a: "x\0" }, {}, /names no file of this folder for a: x\\u\{0\}/],
  ["a shard that is an object without a text", { a: { toString: null } }, {}, /for a: \{"toString":null\}/],
  ["a tensor that its shard lacks", { a: "one", b: "one" }, { one: ["a"] }, /one has no tensor b, which .*index\.json/],
  ["a tensor in two shards", { a: "one", b: "two" }, { one: ["a"], two: ["b", "a"] }, /one and .*two both have .* a$/],
  ["a tensor twice in the index", '{"weight_map":{"a":"one","a":"two"}}', { one: ["a"] }, /index: it has a twice/],
  ["no weight_map", "{}", {}, /has no weight_map/],
  ["an index that is no JSON", "{", {}, /index: it is not JSON/],
];
for (const [what, weightMap, contents, message] of INDEX_DAMAGE) {
  test(`an index with ${what} is one line`, () => {
    assert.throws(() => openSafetensors(shards(weightMap, contents)), userError(message));
  });
}

test("shards are closed again where one is damaged", {
  skip: process.platform !== "linux" && "counts /proc/self/fd",
}, () => {
  const folder = shards({ a: "one", b: "two" }, { one: ["a"] });
  writeFileSync(join(folder, "two"), "damaged");
  const before = readdirSync("/proc/self/fd").length;
  for (let i = 0; i < 50; i++) assert.throws(() => openSafetensors(folder), userError(/two is not a whole/));
  assert.ok(readdirSync("/proc/self/fd").length <= before + 5, "files stay open");
});
